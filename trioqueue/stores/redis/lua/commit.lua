-- Makes turns stand, each whole: pops, state, children, replies, dead letters and a retry go together.
-- include: common fetch
--
-- Sections run in turn (each: checks, then writes) and are answered each for itself.  `done` counts everything that ever
-- settled a head, pops and retries: equal to the stored one, the section is applied; behind it, its first copy ran and
-- the answer was lost, so what holds now is answered; anything else is somebody who is no owner any more, or who has
-- not claimed since the entity was parked.
--
-- A command costs at least one section, so what most sections lack costs them nothing: no argument, and no function,
-- which Redis would make anew for each call.  Their first write is the LTRIM, which a full server allows.
--
-- KEYS[7…] for each section: e (hash), q (list), s (string) where it has a new state, and what it names by number: e, q of
--          an entity stand one behind the other, and so do load, ready of a type, dead (zset), letters (hash) of a type,
--          and later, delayed; result keys (string) stand alone
-- ARGV[2] incarnation
-- ARGV[3] generation
-- ARGV[4] 1: there are sections that do not end with their replies; else 0
-- ARGV[5…] for each section: name, epoch, pops, reached (done and the pops), want (commands wanted next), more (how many
--         arguments follow; 0: it only pops; 1: the new state), and where these are more, then
--         how many keys it has
--         states: 0 or 1, and the new one
--         retry_ms ("": none), pause ("": no; else why the head stays and waits for an operator), failed (1: the retry
--         or pause counts as an attempt)
--         replies: how many; for each: number of its result key, client ("": tell nobody), command id, outcome, keep_ms
--         and unless the section ends here, then
--         dead letters: how many; for each: number of dead, command id, record
--         settled cancels: how many; for each: command id
--         children: how many; for each: name, number of e, number of load, type, envelope, lane ("+": urgent, or "")
--         children that are put off: how many; for each: name, number of later, id, delay_us, envelope, lane
--         withdrawn: how many; for each: name, number of its e, number of later, number of its result key, id, outcome,
--         keep_ms
--
-- Returns one word for the call, GENERATION | WAIT | UNREGISTERED, or for each section, all in one list (flat) unless it
--   is one word of the only section, {NEXT, now_us (0 without commands), ids of cancelled commands, commands} | ON (neither)
--   | PARKED | {BACKOFF, us} | PAUSED | FENCED | TOO_LARGE (the state or a child is; nothing of the section stands)
-- Keeps I1 I2 I3 I5 I8 I13 I14
local incarnation, generation = ARGV[2], ARGV[3]
local MAX_HINT_BYTES = 4096 -- a larger outcome is read from its key
local no = refused(generation, incarnation)
if no then
    return no
end

local answers, at, key = {}, 5, 7

-- What stands behind the replies of a section: looks from ARGV[first] on whether it can be applied, and applies it from
-- ARGV[at] on.
local is_too_large, apply
if ARGV[4] == '1' then
    -- include: place feed lanes later mark
    local function argument()
        local value = ARGV[at]
        at = at + 1
        return value
    end

    -- Raises for a mailbox or dead letters of another type, before anything of the section is written; true: a child is
    -- too large.
    function is_too_large(first)
        local back, too_large = at, false
        at = first
        for _ = 1, tonumber(argument()) do
            local dead = tonumber(ARGV[at])
            redis.call('ZCARD', KEYS[dead])
            redis.call('HLEN', KEYS[dead + 1])
            at = at + 3
        end
        local cancelled = tonumber(argument())
        at = at + cancelled
        for _ = 1, tonumber(argument()) do
            local e, load = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
            redis.call('LLEN', KEYS[e + 1])
            if not redis.call('HGET', KEYS[e], 'mode') then -- else it needs no place
                redis.call('ZCARD', KEYS[load])
                redis.call('ZCARD', KEYS[load + 1])
            end
            too_large = too_large or #ARGV[at + 4] > MAX_COMMAND_BYTES
            at = at + 6
        end
        for _ = 1, tonumber(argument()) do
            local later = tonumber(ARGV[at + 1])
            redis.call('ZCARD', KEYS[later])
            redis.call('HLEN', KEYS[later + 1])
            too_large = too_large or #ARGV[at + 4] > MAX_COMMAND_BYTES
            at = at + 6
        end
        for _ = 1, tonumber(argument()) do
            local e, later = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
            redis.call('HLEN', KEYS[e])
            redis.call('LLEN', KEYS[e + 1])
            redis.call('ZCARD', KEYS[later])
            redis.call('HLEN', KEYS[later + 1])
            at = at + 7
        end
        at = back
        return too_large
    end

    -- Those of one section die a microsecond after one another, as among equals only their ids would order them.  The
    -- next section of the entity comes later than that, as no microsecond is enough to bury one.
    local function bury(entity, before)
        local dead, id, record = tonumber(argument()), argument(), argument()
        redis.call('ZADD', KEYS[dead], text(time_us() + before), id)
        redis.call('HSET', KEYS[dead + 1], id, record)
        redis.call('HINCRBY', META, 'dead:' .. string.match(entity, '^[^/]+'), 1)
    end

    local function bear(parent, pops)
        local name, e, load = argument(), tonumber(argument()), tonumber(argument())
        local child = { name = name, e = KEYS[e], q = KEYS[e + 1], load = KEYS[load], ready = KEYS[load + 1], type = argument() }
        local h, now = redis.call('HMGET', child.e, 'mode', 'owner', 'eager'), time_us()
        local envelope, lane = argument(), argument()
        child.eager, child.settled = h[3], name == parent and pops or 0
        give_command(child, element_of(lane, now, envelope))
        queue(child, h[1], h[2], incarnation, now)
    end

    local function bear_later()
        local name, later, id, delay_us, envelope = argument(), tonumber(argument()), argument(), tonumber(argument()), argument()
        put_off(KEYS[later], KEYS[later + 1], name, id, envelope, delay_us, time_us(), argument())
    end

    local function withdraw()
        local name, e, later, result = argument(), tonumber(argument()), tonumber(argument()), tonumber(argument())
        local id, outcome, keep_ms = argument(), argument(), argument()
        local one = kept(KEYS[later + 1], id)
        if one then
            take_out(KEYS[later], KEYS[later + 1], one.number, id)
            redis.call('SET', KEYS[result], outcome, 'PX', keep_ms)
        elseif redis.call('LLEN', KEYS[e + 1]) > 0 and redis.call('EXISTS', KEYS[result]) == 0 then
            mark(KEYS[e], name, id)
        end
    end

    -- Says whether the count of the entity's cancelled commands may have changed.
    function apply(name, entity_key, pops)
        for i = 1, tonumber(argument()) do bury(name, i - 1) end
        local settled = tonumber(argument())
        for _ = 1, settled do
            if redis.call('HDEL', entity_key, 'cancel:' .. argument()) == 1
                and redis.call('HINCRBY', entity_key, 'cancels', -1) == 0 then
                redis.call('ZREM', MARKED, name)
            end
        end
        for _ = 1, tonumber(argument()) do bear(name, pops) end
        for _ = 1, tonumber(argument()) do bear_later() end
        local withdrawn = tonumber(argument())
        for _ = 1, withdrawn do withdraw() end -- some may be its own
        return settled > 0 or withdrawn > 0
    end
end

while at <= #ARGV do
    local name, epoch, pops, reached = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
    local want, more = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
    local E, Q, S = KEYS[key], KEYS[key + 1], KEYS[key + 2]
    local done, state, retry_ms, pause, failed, replies = reached - pops, nil, '', '', '0', 0
    at = at + 6
    local following, rest = at + more, at + more -- where the next section begins, and what stands behind the replies
    if more < 2 then
        state = more == 1 and ARGV[at]
        key = key + 2 + more
    else
        key = key + tonumber(ARGV[at])
        state = ARGV[at + 1] == '1' and ARGV[at + 2]
        at = state and at + 3 or at + 2
        retry_ms, pause, failed, replies = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
        at = at + 4
        rest = at + 5 * replies
    end
    local h = redis.call('HMGET', E, 'owner', 'epoch', 'done', 'mode', 'fetched')
    -- An owner's entity has the first, second and fourth; few have more than these five.
    local few = redis.call('HLEN', E) > 3 + (h[3] and 1 or 0) + (h[5] and 1 or 0)
        and redis.call('HMGET', E, 'paused', 'cancels', 'crashes', 'attempts', 'unknown', 'full') or {}
    local paused, marked, crashes = few[1], few[2], few[3]
    local held = paused or held_types and type_held(name)
    local stored, fetched = tonumber(h[3] or 0), tonumber(h[5] or 0)
    -- A suspect comes alone while it is the head.
    local alone = crashes and (tonumber(crashes) > 1 or redis.call('HGET', E, 'proven'))
    local answer, emptied = nil, false
    if h[1] ~= incarnation or h[2] ~= epoch or stored < done or stored == done and h[4] ~= 'active' then
        answer = 'FENCED'
    elseif stored > done then
        redis.call('HDEL', META, '_') -- a first write that a full server allows
        reached = h[3] or '0'
        if h[4] ~= 'active' then
            local due = redis.call('HGET', E, 'due')
            if paused or held and redis.call('LLEN', Q) > 0 then
                answer = 'PAUSED'
            elseif due then
                -- Further away: the clock was set back, and nothing else would wake the worker.
                local left = tonumber(due) - time_us()
                answer = { 'BACKOFF', left > 0 and left <= MAX_BACKOFF_US and left or 0 }
            else
                answer = 'PARKED'
            end
        end
    elseif state and #state > MAX_STATE_BYTES or rest < following and is_too_large(rest) then
        answer = 'TOO_LARGE'
    else
        redis.call('LTRIM', Q, pops, '-1') -- also for no pops: a first write that a full server allows
        if pops ~= '0' and (crashes or few[4] or few[5]) then
            redis.call('HDEL', E, 'attempts', 'crashes', 'unknown', 'proven')
            alone = false
        end
        if crashes and redis.call('HGET', FLEET, 'suspect:' .. incarnation) == name then
            redis.call('HDEL', FLEET, 'suspect:' .. incarnation)
        end
        if state then
            redis.call('SET', S, epoch .. '.' .. text(done) .. ' ' .. state)
        end
        for _ = 1, replies do
            local result, client, id, outcome, keep_ms = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
            if tonumber(keep_ms) > 0 then
                redis.call('SET', result, outcome, 'PX', keep_ms)
            end
            if client ~= '' then
                redis.call('PUBLISH', CHANNEL .. client, #outcome <= MAX_HINT_BYTES and 'r' .. id .. ' ' .. outcome or 'r' .. id)
            end
            at = at + 5
        end
        if rest < following and apply(name, E, tonumber(pops)) then
            marked = redis.call('HGET', E, 'cancels')
        end
        if pause ~= '' then
            redis.call('HSET', E, 'paused', text(time_us()) .. ' ' .. pause)
        end
        local stays = retry_ms ~= '' or pause ~= ''
        -- What workers have fetched and not settled is in the mailbox, so there is no need to look.
        if fetched <= tonumber(reached) and redis.call('LLEN', Q) == 0 then
            redis.call('HSET', E, 'mode', 'parked', 'done', stays and reached + 1 or reached)
            redis.call('ZREM', WAKE, name)
            emptied = true
            if few[6] then
                redis.call('HDEL', E, 'full')
            end
            answer = paused and 'PAUSED' or 'PARKED'
        elseif stays then
            local wait = tonumber(retry_ms ~= '' and retry_ms or 0) * 1000
            redis.call('HSET', E, 'mode', 'parked', 'done', reached + 1, 'fetched', fetched + 1)
            if retry_ms ~= '' then -- also for no wait at all: it tells a repetition from an empty mailbox
                redis.call('HSET', E, 'due', text(time_us() + wait))
            end
            if failed == '1' then
                redis.call('HINCRBY', E, 'attempts', 1)
                redis.call('HDEL', E, 'unknown') -- a pod that failed with it knows it
            end
            answer = (held or pause ~= '') and 'PAUSED' or { 'BACKOFF', wait }
        elseif held then
            redis.call('HSET', E, 'mode', 'parked', 'done', reached)
            answer = 'PAUSED'
        end
    end
    local ids
    if marked then
        -- include: marked
        if emptied then
            forget_cancels(E, name, marked)
        else
            ids = cancels(E, marked)
        end
    end
    if not answer then -- the entity goes on
        local commands = want > 0 and batch(Q, alone and 1 or want)
        if commands and #commands == 0 then -- what was fetched is gone, and none of us has taken it
            redis.call('HSET', E, 'mode', 'parked', 'done', reached, 'fetched', reached)
            redis.call('ZREM', WAKE, name)
            answer = 'PARKED'
        elseif commands then
            redis.call('HSET', E, 'done', reached, 'fetched', math.max(fetched, reached + #commands))
            answer = { 'NEXT', time_us(), ids or {}, commands }
        else
            redis.call('HSET', E, 'done', reached)
            answer = ids and { 'NEXT', 0, ids, {} } or 'ON'
        end
    end
    if following > #ARGV and #answers == 0 and type(answer) == 'string' then
        return answer -- Redis is slow to make a list of it
    end
    answers[#answers + 1] = answer
    at = following
end
-- include: flat
return flat(answers)
