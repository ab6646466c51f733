-- Takes a dead letter off the dead ones: back into its mailbox, or away for good.
-- include: common place feed lanes overrule
--
-- KEYS[7] dead, KEYS[8] letters  of the type
-- KEYS[9] e, KEYS[10] q, KEYS[11] load, KEYS[12] ready  of the entity and its type; KEYS[13] result of the command
-- ARGV[2] name
-- ARGV[3] type
-- ARGV[4] command id
-- ARGV[5] where       tail | head (before all others; a head that waits out a backoff loses it) | nowhere
-- ARGV[6] envelope
--
-- Returns 1 | 0 (it is no dead letter, or not any more)
-- Keeps I1 I3 I4 I5 I7 I8
local DEAD, LETTERS, E, name, id, where = KEYS[7], KEYS[8], KEYS[9], ARGV[2], ARGV[4], ARGV[5]
local x = { name = name, type = ARGV[3], e = E, q = KEYS[10], load = KEYS[11], ready = KEYS[12] }
if not redis.call('HGET', LETTERS, id) then
    return 0
end
redis.call('LLEN', x.q)
redis.call('ZCARD', x.load)
redis.call('ZCARD', x.ready)
local now, h = time_us(), redis.call('HMGET', E, 'mode', 'owner', 'epoch', 'eager')
local mode = h[1]
redis.call('HDEL', META, '_') -- a first write that a full server allows
if where == 'tail' then
    give_command(x, element_of('', now, ARGV[6]))
    x.eager = h[4]
    queue(x, mode, h[2], nil, now)
elseif where == 'head' then
    redis.call('LPUSH', x.q, element_of('', now, ARGV[6]))
    moved_on(E, -1)
    overrule(E, mode, h[3], now)
    forget_head(E, name, h[2])
    if not mode then
        give(x, choose(x.load, nil, nil), now)
    elseif mode == 'parked' or mode == 'active' then
        redis.call('ZADD', WAKE, number_of(h[2]), name)
        hint(h[2], 'u' .. name)
    end
end
if where ~= 'nowhere' then
    redis.call('DEL', KEYS[13]) -- it is not settled any more
end
redis.call('ZREM', DEAD, id)
redis.call('HDEL', LETTERS, id)
redis.call('HINCRBY', META, 'dead:' .. x.type, -1)
return 1
