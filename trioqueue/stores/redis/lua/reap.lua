-- Hands the entities of a silent or leaving pod on, a chunk a call, and then takes it out of the registry.
-- include: common place
--
-- The first call marks the pod as leaving: from then on nothing is placed with it and its own requests are refused.  It
-- leaves the registry when it owns nothing any more, never before: nobody would reap an owner that is not there.
--
-- KEYS[7…] load (zset) of each type that the pod takes, as many as `types` says; then for each entity: e, q, and load,
--          ready of its type; the last one is paused
-- ARGV[2] incarnation   of the caller
-- ARGV[3] generation
-- ARGV[4] target        the incarnation to reap
-- ARGV[5] gave_up       1: the target is an older one of the caller's process, or the caller itself, and need not be
--                       silent; its active entities get no crash mark
-- ARGV[6] chunk         entities that the answer names
-- ARGV[7] types         how many
-- ARGV[8…] for each entity: name, type
--
-- Returns GENERATION | WAIT | UNREGISTERED | {ALIVE} | {GONE} | {MORE, entities to name in the next call, …}
-- Keeps I5 I6 I11 I12
local incarnation, generation, target, gave_up = ARGV[2], ARGV[3], ARGV[4], ARGV[5] == '1'
local chunk, types = ARGV[6], tonumber(ARGV[7])
local no = refused(generation, incarnation)
if no and not (no == 'UNREGISTERED' and gave_up and target == incarnation) then
    return no
end
local renewed = redis.call('ZSCORE', PODS, target)
if not renewed then
    return { 'GONE' }
end
renewed = tonumber(renewed)
local now = time_us()
if gave_up then
    if client_of(target) ~= client_of(incarnation) then
        return { 'ALIVE' }
    end
elseif renewed > 0 and now <= renewed + tonumber(redis.call('HGET', FLEET, 'silent_us:' .. target) or 0) then
    return { 'ALIVE' }
end
redis.call('HDEL', META, '_') -- a first write that a full server allows
if renewed > 0 then
    redis.call('ZADD', PODS, 0, target)
    for i = 7, 6 + types do
        redis.call('ZREM', KEYS[i], target)
    end
end
local suspect = redis.call('HGET', FLEET, 'suspect:' .. target)
-- Who registered with the server before lost its lease by the restart: that is nobody's crash.
local lost_by_restart = tonumber(number_of(target)) < tonumber(redis.call('HGET', META, 'generation_from') or 0)
local crashed = not gave_up and not lost_by_restart
local key = 7 + types
for at = 8, #ARGV, 2 do
    local x = { name = ARGV[at], type = ARGV[at + 1], e = KEYS[key], q = KEYS[key + 1], load = KEYS[key + 2], ready = KEYS[key + 3], paused = KEYS[#KEYS] }
    local h = redis.call('HMGET', x.e, 'owner', 'mode', 'paused')
    if h[1] == target then
        if h[2] == 'active' and crashed and (not suspect or suspect == x.name) then
            redis.call('HSET', x.e, 'mark', suspect and 'alone' or 'among others')
        end
        x.queued, x.is_paused = redis.call('LLEN', x.q), h[3]
        let_go(x, target)
    elseif redis.call('ZSCORE', OWNED, x.name) == number_of(target) then
        redis.call('ZREM', OWNED, x.name) -- a stranger put it there: it would be named for ever
    end
    key = key + 4
end
local number = number_of(target)
local rest = redis.call('ZRANGEBYSCORE', OWNED, number, number, 'LIMIT', 0, chunk)
if #rest == 0 then
    redis.call('ZREM', PODS, target)
    redis.call('HDEL', FLEET, 'name:' .. target, 'room:' .. target, 'silent_us:' .. target, 'types:' .. target,
        'suspect:' .. target)
    local joined = redis.call('HGET', META, 'joined:' .. client_of(target))
    if joined and string.sub(joined, -#target) == target then
        redis.call('HDEL', META, 'joined:' .. client_of(target))
    end
    return { 'GONE' }
end
table.insert(rest, 1, 'MORE')
return rest
