-- Lets go of an entity: out of the store, to another pod, to ready, or among those that are paused.
-- include: common place
--
-- KEYS[7] e, KEYS[8] q, KEYS[9] load, KEYS[10] ready  of the entity and its type; KEYS[11] paused
-- ARGV[2] incarnation
-- ARGV[3] generation
-- ARGV[4] name
-- ARGV[5] type
-- ARGV[6] epoch       of the claim; "": assigned and never claimed
-- ARGV[7] why         idle (only if nothing is queued) | handoff | decline (the head's start is put off by decline_us)
-- ARGV[8] decline_us
--
-- Returns GENERATION | WAIT | UNREGISTERED | OK | KEPT (work has come, or it was not the caller's)
-- Keeps I1 I5 I6 I11
local incarnation, generation, name, why = ARGV[2], ARGV[3], ARGV[4], ARGV[7]
local x = { name = name, type = ARGV[5], e = KEYS[7], q = KEYS[8], load = KEYS[9], ready = KEYS[10], paused = KEYS[11] }
local no = refused(generation, incarnation)
if no then
    return no
end
local h = redis.call('HMGET', x.e, 'owner', 'epoch', 'mode', 'crashes', 'unknown', 'paused')
if h[1] ~= incarnation then
    return 'KEPT'
end
if ARGV[6] == '' and h[3] ~= 'parked' or ARGV[6] ~= '' and h[2] ~= ARGV[6] then
    return 'KEPT'
end
x.queued, x.is_paused = redis.call('LLEN', x.q), h[6]
if why == 'idle' and x.queued > 0 then
    return 'KEPT'
end
if h[4] and redis.call('HGET', FLEET, 'suspect:' .. incarnation) == name then
    redis.call('HDEL', FLEET, 'suspect:' .. incarnation)
end
let_go(x, incarnation, why == 'decline')
if why == 'decline' and x.queued > 0 then
    redis.call('HSET', x.e, 'due', text(time_us() + tonumber(ARGV[8])), 'unknown', h[5] or text(time_us()))
end
return 'OK'
