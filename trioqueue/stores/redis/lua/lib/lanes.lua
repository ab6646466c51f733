-- The two lanes of a mailbox: needs common, feed and place.
--
-- Both lie in one list: first what workers have fetched, then the urgent commands, then the others, so that whoever reads
-- a mailbox's beginning need not ask for lanes.  "+" before the time of its acceptance tells an urgent one.  The hash's
-- `fetched` says how far workers have read, in the count of `done`; nothing is put in front of that.

-- Says whether an element is in the urgent lane.
local function is_urgent(element)
    return string.byte(element) == 43 -- "+"
end

-- Makes an element of a mailbox; lane is "+" or "".
local function element_of(lane, now, envelope)
    return lane .. text(now) .. ' ' .. envelope
end

-- Puts one into the urgent lane: behind the others of it, before all else that no worker has fetched.  `settled` are
-- commands that were taken out and are not in `done` yet.
local function overtake(entity_key, queue_key, element, settled)
    local h = redis.call('HMGET', entity_key, 'fetched', 'done')
    local low, step, high = math.max(0, tonumber(h[1] or 0) - tonumber(h[2] or 0) - settled), 1, nil
    local function waits(place)
        local there = redis.call('LINDEX', queue_key, place)
        return there and is_urgent(there)
    end
    -- The lane's end is looked for in growing steps, and then between the last two.
    high = low
    while waits(high) do
        low, high, step = high + 1, high + step, 2 * step
    end
    while low < high do
        local middle = math.floor((low + high) / 2)
        if waits(middle) then
            low = middle + 1
        else
            high = middle
        end
    end
    local behind = redis.call('LINDEX', queue_key, low)
    if behind then
        redis.call('LINSERT', queue_key, 'BEFORE', behind, element)
    else
        redis.call('RPUSH', queue_key, element)
    end
end

-- Puts the commands of x = {e, q, commands, urgent} into its mailbox; the latter are elements of the urgent lane, or nil.
local function push(x)
    append(x)
    for _, element in ipairs(x.urgent or {}) do
        overtake(x.e, x.q, element, x.settled or 0)
    end
end

-- Gives x one command, in the lane that its element says.
local function give_command(x, element)
    x.commands = is_urgent(element) and {} or { element }
    x.urgent = is_urgent(element) and { element } or nil
end

-- Puts the commands of x into its mailbox, and wakes or places it.
local function queue(x, mode, owner, prefer, now)
    push(x)
    if not mode then
        give(x, choose(x.load, prefer, nil), now)
    else
        wake(x, mode, owner)
    end
end
