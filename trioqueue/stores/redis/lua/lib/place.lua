-- Placement: which pod gets an entity that has work and no owner, and what is written when one gets it.
-- An entity x is {name, e, q, load, ready, type, paused}: its name, and the keys that concern it; paused (zset, entity ->
-- since when) only where it may be let go.

local room_left = {} -- incarnation -> entities it may still get, as far as this call has asked
local takes = {} -- load key and incarnation -> whether that pod takes the type, likewise

local function has_room(incarnation)
    if not room_left[incarnation] then
        local number = number_of(incarnation)
        local room = redis.call('HGET', FLEET, 'room:' .. incarnation)
        -- Who is not in the fleet was put among the loads by a stranger, and may be called anything.
        room_left[incarnation] = room and tonumber(room) - redis.call('ZCOUNT', OWNED, number, number) or 0
    end
    return room_left[incarnation] > 0
end

-- The preferred pod if it takes the type and has room, else the least loaded that has, else nil.
local function choose(load, prefer, without)
    if prefer and prefer ~= without then
        local asked = load .. prefer
        if takes[asked] == nil then
            takes[asked] = redis.call('ZSCORE', load, prefer) and true or false
        end
        if takes[asked] and has_room(prefer) then
            return prefer
        end
    end
    local pods = redis.call('ZRANGE', load, 0, -1)
    for i = 1, #pods do
        if pods[i] ~= without and has_room(pods[i]) then
            return pods[i]
        end
    end
    return nil
end

-- The pod with room that joined next after one that can't handle the head, round and round, so that each is asked in its
-- turn: by their loads, two pods of an old release would hand it to each other for ever.
local function next_after(load, declined)
    local here, first, following = tonumber(number_of(declined)), nil, nil
    for _, pod in ipairs(redis.call('ZRANGE', load, 0, -1)) do
        local number = tonumber(number_of(pod) or '')
        if number and pod ~= declined and has_room(pod) then
            if not first or number < first[1] then
                first = { number, pod }
            end
            if number > here and (not following or number < following[1]) then
                following = { number, pod }
            end
        end
    end
    return (following or first or {})[2]
end

-- Counts x among what a pod owns.
local function list(x, to)
    redis.call('ZADD', OWNED, number_of(to), x.name)
    redis.call('ZINCRBY', x.load, 1, to)
    if room_left[to] then
        room_left[to] = room_left[to] - 1
    end
end

-- Makes a pod the owner of x, which has no work.
local function park(x, to)
    redis.call('HSET', x.e, 'mode', 'parked', 'owner', to)
    list(x, to)
end

-- Makes a pod the owner of x, which has work: it is in wake from now on.
local function own(x, to)
    park(x, to)
    redis.call('ZADD', WAKE, number_of(to), x.name)
end

-- Assigns x, which has work and no owner, to a pod and wakes it there; nil: it becomes ready.
local function give(x, to, now)
    if to then
        own(x, to)
        hint(to, 'w' .. x.name)
    else
        redis.call('HSET', x.e, 'mode', 'ready')
        redis.call('HDEL', x.e, 'owner')
        if redis.call('ZADD', x.ready, text(now), x.name) == 1 then
            redis.call('HINCRBY', META, 'ready:' .. x.type, 1)
        end
    end
end

-- Has a new owner's heartbeats name x if commands of it are marked as cancelled.
local function tell_marks(x, to)
    if to and tonumber(redis.call('HGET', x.e, 'cancels') or 0) > 0 then
        redis.call('ZADD', MARKED, number_of(to), x.name)
    end
end

-- Takes x away from its owner, who may have declined its head: to another pod, to ready, if it is paused (is_paused) among
-- those, or, with nothing queued (queued), out of the store.  Its first write raises where the type's key is another's, so
-- that its owner still has it; whoever calls it has written something before that a full server allows.
local function let_go(x, owner, declined)
    redis.call('ZADD', x.load, 'XX', 'INCR', '-1', owner)
    redis.call('ZREM', OWNED, x.name)
    redis.call('ZREM', WAKE, x.name)
    redis.call('ZREM', MARKED, x.name)
    if x.is_paused then
        redis.call('HSET', x.e, 'mode', 'paused')
        redis.call('HDEL', x.e, 'owner', 'overruled', 'eager')
        redis.call('ZADD', x.paused, text(time_us()), x.name)
    elseif x.queued == 0 then
        redis.call('DEL', x.e)
    else
        redis.call('HDEL', x.e, 'overruled', 'eager')
        local to = nil
        if not type_held(x.name) then
            to = declined and next_after(x.load, owner) or choose(x.load, nil, owner)
        end
        give(x, to, time_us())
        tell_marks(x, to)
    end
end
