-- Holds an entity back for an operator, or lets it go on.
-- include: common place
--
-- Whoever handles it now commits that turn; from then on nobody claims it.  Its epoch stays.  It keeps its place: a
-- mailbox that is paused takes commands like any other.
--
-- KEYS[7] e, KEYS[8] q, KEYS[9] load, KEYS[10] ready  of the entity and its type; KEYS[11] paused
-- ARGV[2] name
-- ARGV[3] type
-- ARGV[4] why      "": it goes on, and its head begins with all its attempts
--
-- Returns 1 | 0 (it was so already)
-- Keeps I1 I5 I6 I13
local E, name, why = KEYS[7], ARGV[2], ARGV[4]
local x = { name = name, type = ARGV[3], e = E, q = KEYS[8], load = KEYS[9], ready = KEYS[10], paused = KEYS[11] }
local h = redis.call('HMGET', E, 'mode', 'owner', 'paused', 'overruled')
if (why ~= '') == (h[3] and true or false) then
    return 0
end
redis.call('HDEL', META, '_') -- a first write that a full server allows
local now, mode = time_us(), h[1]
if h[4] then
    mode = 'active' -- its handler may still run
end
if why == '' then
    redis.call('HDEL', E, 'paused')
    if mode == 'paused' then
        redis.call('HDEL', E, 'attempts', 'crashes', 'proven')
        redis.call('ZREM', x.paused, name)
        read_held()
        if redis.call('LLEN', x.q) == 0 then
            redis.call('DEL', E)
        else
            local to = not type_held(name) and choose(x.load, nil, nil) or nil
            give(x, to, now)
            tell_marks(x, to)
        end
    end
    return 1
end
redis.call('HSET', E, 'paused', text(now) .. ' ' .. why)
if mode == 'parked' then
    hint(h[2], 'u' .. name)
    x.is_paused = true
    let_go(x, h[2])
elseif mode ~= 'active' then
    redis.call('HSET', E, 'mode', 'paused')
    redis.call('ZADD', x.paused, text(now), name)
    if mode == 'ready' then
        redis.call('ZREM', x.ready, name)
        redis.call('HINCRBY', META, 'ready:' .. x.type, -1)
    end
end
return 1
