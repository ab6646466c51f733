-- Lets go of entities: out of the store, to another pod, to ready, or among those that are paused.
-- include: common place
--
-- Sections run in turn (each: checks, then writes) and are answered each for itself.
--
-- KEYS[7]  paused  zset  entities that an operator holds back
-- KEYS[8…] for each section: e (hash), q (list), load (zset) and ready (zset) of its type
-- ARGV[2] incarnation
-- ARGV[3] generation
-- ARGV[4] decline_us
-- ARGV[…] for each section: name, type, epoch of the claim ("": assigned and never claimed), why: idle (only if nothing is
--         queued) | handoff | decline (the head's start is put off by decline_us)
--
-- Returns one word for the call, GENERATION | WAIT | UNREGISTERED, or for each section
--   OK | KEPT (work has come, or it was not the caller's, or is not any more, as an earlier copy of the section has run)
-- Keeps I1 I5 I6 I11
local incarnation, generation = ARGV[2], ARGV[3]
local no = refused(generation, incarnation)
if no then
    return no
end
redis.call('HDEL', META, '_') -- a first write that a full server allows
local answers = {}
for i = 0, (#KEYS - 7) / 4 - 1 do
    local name, epoch, why = ARGV[5 + 4 * i], ARGV[7 + 4 * i], ARGV[8 + 4 * i]
    local x = { name = name, type = ARGV[6 + 4 * i], e = KEYS[8 + 4 * i], q = KEYS[9 + 4 * i], load = KEYS[10 + 4 * i],
        ready = KEYS[11 + 4 * i], paused = KEYS[7] }
    local h = redis.call('HMGET', x.e, 'owner', 'epoch', 'mode', 'crashes', 'unknown', 'paused')
    x.queued, x.is_paused = redis.call('LLEN', x.q), h[6]
    local its = h[1] == incarnation and (epoch == '' and h[3] == 'parked' or epoch ~= '' and h[2] == epoch)
    if not its or why == 'idle' and x.queued > 0 then
        answers[i + 1] = 'KEPT'
    else
        if h[4] and redis.call('HGET', FLEET, 'suspect:' .. incarnation) == name then
            redis.call('HDEL', FLEET, 'suspect:' .. incarnation)
        end
        let_go(x, incarnation, why == 'decline')
        if why == 'decline' and x.queued > 0 then
            redis.call('HSET', x.e, 'due', text(time_us() + tonumber(ARGV[4])), 'unknown', h[5] or text(time_us()))
        end
        answers[i + 1] = 'OK'
    end
end
return answers
