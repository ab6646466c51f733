-- Takes the first commands out of a mailbox unhandled, and tells who waits for them.
-- include: common marked overrule
--
-- The caller has read what it names; if the mailbox begins with something else now, nothing is done.  A worker that has
-- fetched them is overruled: what it makes of them will not stand.
--
-- KEYS[7] e, KEYS[8] q, KEYS[9] ready  of the entity and its type; KEYS[10…] result of each command
-- ARGV[2] name
-- ARGV[3] type
-- ARGV[4] first, ARGV[5] last   elements of the mailbox between which, both included, it is emptied
-- ARGV[6] outcome
-- ARGV[7…] for each command: id, client that is told or "", keep_ms (0: its outcome is not kept)
--
-- Returns 1 | 0 (the mailbox has changed)
-- Keeps I1 I5 I7 I8
local E, Q, READY, name, count = KEYS[7], KEYS[8], KEYS[9], ARGV[2], #KEYS - 9
if redis.call('LRANGE', Q, 0, 0)[1] ~= ARGV[4] or redis.call('LRANGE', Q, count - 1, count - 1)[1] ~= ARGV[5] then
    return 0
end
local h = redis.call('HMGET', E, 'mode', 'owner', 'epoch', 'cancels')
redis.call('ZCARD', READY)
redis.call('HDEL', META, '_') -- a first write that a full server allows
local now = time_us()
overrule(E, h[1], h[3], now)
if h[2] then
    hint(h[2], 'u' .. name)
end
redis.call('LTRIM', Q, count, -1)
moved_on(E, count)
forget_head(E, name, h[2])
for i = 1, count do
    local id, client, keep_ms = ARGV[4 + 3 * i], ARGV[5 + 3 * i], ARGV[6 + 3 * i]
    if tonumber(keep_ms) > 0 then
        redis.call('SET', KEYS[9 + i], ARGV[6], 'PX', keep_ms)
    end
    if client ~= '' then
        redis.call('PUBLISH', CHANNEL .. client, 'r' .. id .. ' ' .. ARGV[6])
    end
    if h[4] and redis.call('HDEL', E, 'cancel:' .. id) == 1 and redis.call('HINCRBY', E, 'cancels', -1) == 0 then
        redis.call('ZREM', MARKED, name)
    end
end
if redis.call('LLEN', Q) == 0 then
    redis.call('ZREM', WAKE, name)
    forget_cancels(E, name, h[4])
    redis.call('HDEL', E, 'full')
    if h[1] == 'ready' then
        redis.call('ZREM', READY, name)
        redis.call('HINCRBY', META, 'ready:' .. ARGV[3], -1)
        redis.call('DEL', E)
    end
elseif h[1] == 'active' then
    hint(h[2], 'w' .. name)
end
return 1
