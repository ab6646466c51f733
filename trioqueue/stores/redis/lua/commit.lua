-- Makes turns stand, each whole: pops, state, children, replies, dead letters and a retry go together.
-- include: common place lanes fetch later mark
--
-- Sections run in turn (each: checks, then writes) and are answered each for itself.  `done` counts everything that ever
-- settled a head, pops and retries: equal to the stored one, the section is applied; behind it, its first copy ran and
-- the answer was lost, so what holds now is answered; anything else is somebody who is no owner any more, or who has
-- not claimed since the entity was parked.
--
-- KEYS[7…] as the sections name them by number: e, q, s of an entity stand one behind the other, and so do load, ready of
--          a type, dead (zset), letters (hash) of a type, and later, delayed; result keys (string) stand alone
-- ARGV[2] incarnation
-- ARGV[3] generation
-- ARGV[…] for each section: name, number of e, epoch, done, pops, retry_ms ("": none), pause ("": no; else why the head
--         stays and waits for an operator), failed (1: the retry or pause counts as an attempt), want (commands wanted next), state ("" with has_state 0), has_state, extras (0: the section ends
--         here), then
--         replies: how many; for each: number of its result key, client ("": tell nobody), command id, outcome, keep_ms
--         dead letters: how many; for each: number of dead, command id, record
--         settled cancels: how many; for each: command id
--         children: how many; for each: name, number of e, number of load, type, envelope, lane ("+": urgent, or "")
--         children that are put off: how many; for each: name, number of later, id, delay_us, envelope, lane
--         withdrawn: how many; for each: name, number of its e, number of later, number of its result key, id, outcome,
--         keep_ms
--
-- Returns one word for the call, GENERATION | WAIT | UNREGISTERED, or for each section
--   {NEXT, now_us, ids of cancelled commands, commands} | PARKED | {BACKOFF, us} | PAUSED | FENCED
--   | TOO_LARGE (the state or a child is; nothing of the section stands)
-- Keeps I1 I2 I3 I5 I8 I13 I14
local incarnation, generation = ARGV[2], ARGV[3]
local MAX_HINT_BYTES = 4096 -- a larger outcome is read from its key
local no = refused(generation, incarnation)
if no then
    return no
end
redis.call('HDEL', META, '_') -- a first write that a full server allows
local now, answers, at = time_us(), {}, 4
local function argument()
    local value = ARGV[at]
    at = at + 1
    return value
end

local function skip_extras()
    for _, size in ipairs({ 5, 3, 1, 6, 6, 7 }) do
        local count = tonumber(argument()) -- first, as reading it moves `at`
        at = at + size * count
    end
end

-- Raises for a mailbox or dead letters of another type, before anything of the section is written; true: a child is
-- too large.
local function check_extras()
    local start, too_large = at, false
    local replies = tonumber(argument())
    at = at + 5 * replies
    for _ = 1, tonumber(argument()) do
        local dead = tonumber(ARGV[at])
        redis.call('ZCARD', KEYS[dead])
        redis.call('HLEN', KEYS[dead + 1])
        at = at + 3
    end
    local count = tonumber(argument())
    at = at + count
    for _ = 1, tonumber(argument()) do
        local e, load = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
        redis.call('HLEN', KEYS[e])
        redis.call('LLEN', KEYS[e + 1])
        redis.call('ZCARD', KEYS[load])
        redis.call('ZCARD', KEYS[load + 1])
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
    at = start
    return too_large
end

local function reply()
    local key, client, id, outcome, keep_ms = KEYS[tonumber(argument())], argument(), argument(), argument(), argument()
    if tonumber(keep_ms) > 0 then
        redis.call('SET', key, outcome, 'PX', keep_ms)
    end
    if client ~= '' then
        redis.call('PUBLISH', CHANNEL .. client, #outcome <= MAX_HINT_BYTES and 'r' .. id .. ' ' .. outcome or 'r' .. id)
    end
end

local function bury(entity)
    local dead, id, record = tonumber(argument()), argument(), argument()
    redis.call('ZADD', KEYS[dead], text(now), id)
    redis.call('HSET', KEYS[dead + 1], id, record)
    redis.call('HINCRBY', META, 'dead:' .. string.match(entity, '^[^/]+'), 1)
end

local function bear(parent, pops)
    local name, e, load = argument(), tonumber(argument()), tonumber(argument())
    local child = { name = name, e = KEYS[e], q = KEYS[e + 1], load = KEYS[load], ready = KEYS[load + 1], type = argument() }
    local h = redis.call('HMGET', child.e, 'mode', 'owner', 'eager')
    local envelope, lane = argument(), argument()
    child.eager, child.settled = h[3], name == parent and pops or 0
    give_command(child, element_of(lane, now, envelope))
    queue(child, h[1], h[2], incarnation, now)
end

local function bear_later()
    local name, later, id, delay_us, envelope = argument(), tonumber(argument()), argument(), tonumber(argument()), argument()
    put_off(KEYS[later], KEYS[later + 1], name, id, envelope, delay_us, now, argument())
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

while at <= #ARGV do
    local name, e, epoch, done, pops = argument(), tonumber(argument()), argument(), tonumber(argument()), tonumber(argument())
    local retry_ms, pause, failed, want, state, has_state, extras =
        argument(), argument(), argument(), tonumber(argument()), argument(), argument(), argument()
    local E, Q, S = KEYS[e], KEYS[e + 1], KEYS[e + 2]
    local h = redis.call('HMGET', E, 'owner', 'epoch', 'done', 'mode', 'due', 'attempts', 'crashes', 'unknown', 'cancels',
        'proven', 'paused', 'fetched')
    local held = h[11] or held_types and type_held(name)
    local stored, fetched = tonumber(h[3] or 0), tonumber(h[12] or 0)
    local alone = tonumber(h[7] or 0) > 1 or h[10] -- the head is a suspect: it comes alone while it is the head
    if h[1] ~= incarnation or h[2] ~= epoch or stored < done or stored == done and h[4] ~= 'active' then
        if extras == '1' then skip_extras() end
        answers[#answers + 1] = 'FENCED'
    elseif stored > done then
        if extras == '1' then skip_extras() end
        if h[4] == 'active' then
            local commands = want > 0 and batch(Q, alone and 1 or want) or {}
            if #commands > 0 then
                redis.call('HSET', E, 'fetched', math.max(fetched, stored + #commands))
            end
            answers[#answers + 1] = { 'NEXT', now, cancels(E, h[9]), commands }
        elseif h[11] or held and redis.call('LLEN', Q) > 0 then
            answers[#answers + 1] = 'PAUSED'
        elseif h[5] then
            local left = tonumber(h[5]) - now -- further away: the clock was set back, and nothing else would wake the worker
            answers[#answers + 1] = { 'BACKOFF', left > 0 and left <= MAX_BACKOFF_US and left or 0 }
        else
            answers[#answers + 1] = 'PARKED'
        end
    elseif #state > MAX_STATE_BYTES or extras == '1' and check_extras() then
        if extras == '1' then skip_extras() end
        answers[#answers + 1] = 'TOO_LARGE'
    else
        if pops > 0 then
            redis.call('LTRIM', Q, pops, -1)
            if h[6] or h[7] or h[8] then
                redis.call('HDEL', E, 'attempts', 'crashes', 'unknown', 'proven')
            end
        end
        if h[7] and redis.call('HGET', FLEET, 'suspect:' .. incarnation) == name then
            redis.call('HDEL', FLEET, 'suspect:' .. incarnation)
        end
        if has_state == '1' then
            redis.call('SET', S, epoch .. '.' .. text(done) .. ' ' .. state)
        end
        if extras == '1' then
            for _ = 1, tonumber(argument()) do reply() end
            for _ = 1, tonumber(argument()) do bury(name) end
            for _ = 1, tonumber(argument()) do
                if redis.call('HDEL', E, 'cancel:' .. argument()) == 1 then
                    h[9] = tostring(redis.call('HINCRBY', E, 'cancels', -1))
                end
            end
            if h[9] == '0' then
                redis.call('ZREM', MARKED, name)
            end
            for _ = 1, tonumber(argument()) do bear(name, pops) end
            for _ = 1, tonumber(argument()) do bear_later() end
            local withdrawn = tonumber(argument())
            for _ = 1, withdrawn do withdraw() end
            if withdrawn > 0 then
                h[9] = redis.call('HGET', E, 'cancels') -- some may be its own
            end
        end
        if pause ~= '' then
            redis.call('HSET', E, 'paused', text(now) .. ' ' .. pause)
        end
        local stays = retry_ms ~= '' or pause ~= ''
        if redis.call('LLEN', Q) == 0 then
            redis.call('HSET', E, 'mode', 'parked', 'done', done + pops + (stays and 1 or 0))
            redis.call('ZREM', WAKE, name)
            forget_cancels(E, name, h[9])
            answers[#answers + 1] = h[11] and 'PAUSED' or 'PARKED'
        elseif stays then
            local wait = tonumber(retry_ms ~= '' and retry_ms or 0) * 1000
            redis.call('HSET', E, 'mode', 'parked', 'done', done + pops + 1, 'fetched', fetched + 1)
            if retry_ms ~= '' then -- also for no wait at all: it tells a repetition from an empty mailbox
                redis.call('HSET', E, 'due', text(now + wait))
            end
            if failed == '1' then
                redis.call('HINCRBY', E, 'attempts', 1)
                redis.call('HDEL', E, 'unknown') -- a pod that failed with it knows it
            end
            answers[#answers + 1] = (held or pause ~= '') and 'PAUSED' or { 'BACKOFF', wait }
        elseif held then
            redis.call('HSET', E, 'mode', 'parked', 'done', done + pops)
            answers[#answers + 1] = 'PAUSED'
        else
            local commands = {}
            if want > 0 then
                commands = batch(Q, alone and pops == 0 and 1 or want)
                redis.call('HSET', E, 'done', done + pops, 'fetched', math.max(fetched, done + pops + #commands))
            else
                redis.call('HSET', E, 'done', done + pops)
            end
            answers[#answers + 1] = { 'NEXT', now, cancels(E, h[9]), commands }
        end
    end
end
return answers
