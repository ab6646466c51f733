-- Moves a schedule on by one tick, and sends its command: for the whole fleet once, whoever of it comes first.
-- include: common place feed lanes
--
-- KEYS[7] schedule  hash  name -> its next tick (ms since the epoch)
-- KEYS[8] e, KEYS[9] q, KEYS[10] load, KEYS[11] ready  of the command's entity and its type, if there is a command
-- ARGV[2] schedule's name
-- ARGV[3] expected  the next tick as the caller knows it; "": it knows none
-- ARGV[4] following the tick after that; "": only reads
-- ARGV[5] name      of the command's entity; none: the tick passes without a command
-- ARGV[6] type
-- ARGV[7] envelope
--
-- Returns {now_us, the next tick as it is from now on, or "", 1 if this call moved it, else 0}
-- Keeps I3 I4 I5
local SCHEDULE, schedule, name = KEYS[7], ARGV[2], ARGV[5]
local now, stored = time_us(), redis.call('HGET', SCHEDULE, ARGV[2]) or ''
if ARGV[4] == '' or stored ~= ARGV[3] then
    return { now, stored, 0 }
end
local x = { name = name, type = ARGV[6], e = KEYS[8], q = KEYS[9], load = KEYS[10], ready = KEYS[11] }
local h
if name then
    h = redis.call('HMGET', x.e, 'mode', 'owner', 'eager')
    redis.call('LLEN', x.q)
    redis.call('ZCARD', x.load)
    redis.call('ZCARD', x.ready)
end
redis.call('HDEL', META, '_') -- a first write that a full server allows
if name then
    give_command(x, element_of('', now, ARGV[7]))
    x.eager = h[3]
    queue(x, h[1], h[2], nil, now)
end
redis.call('HSET', SCHEDULE, schedule, ARGV[4])
return { now, ARGV[4], 1 }
