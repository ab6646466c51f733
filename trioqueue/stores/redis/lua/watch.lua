-- Notes that a client wants to be told what happens to entities of a type, for a while, or not any more.
-- include: common watched
--
-- Pods read of which types somebody wants to be told in meta, with each heartbeat; when that changes, they are told at
-- once as well.
--
-- KEYS[7] watchers  zset  "client type" -> until when (us); * for all types
-- ARGV[2] client
-- ARGV[3] type      or *
-- ARGV[4] keep_ms   0: not any more
--
-- Returns OK
-- Keeps I15
local WATCHERS, client, type, keep_ms = KEYS[7], ARGV[2], ARGV[3], tonumber(ARGV[4])
local now = time_us()
local before = table.concat(watched(now), ' ')
redis.call('HDEL', META, '_') -- a first write that a full server allows
redis.call('ZREM', WATCHERS, client .. ' ' .. type)
redis.call('ZREMRANGEBYSCORE', WATCHERS, '-inf', text(now))
if keep_ms > 0 then
    redis.call('ZADD', WATCHERS, text(now + keep_ms * 1000), client .. ' ' .. type)
end
local untils, types, longest = {}, {}, now
local found = redis.call('ZRANGE', WATCHERS, 0, -1, 'WITHSCORES')
for i = 1, #found, 2 do -- in the order of their ends, so that the last one of a type counts
    local kind = string.match(found[i], ' (%S+)$')
    if kind then
        if not untils[kind] then
            types[#types + 1] = kind
        end
        untils[kind], longest = text(tonumber(found[i + 1])), tonumber(found[i + 1])
    end
end
table.sort(types)
if #types == 0 then
    redis.call('HDEL', META, 'watched')
else
    redis.call('PEXPIRE', WATCHERS, math.ceil((longest - now) / 1000))
    local words = {}
    for _, kind in ipairs(types) do
        words[#words + 1] = kind .. ' ' .. untils[kind]
    end
    redis.call('HSET', META, 'watched', table.concat(words, ' '))
end
local after = table.concat(types, ' ')
if after ~= before then
    for _, incarnation in ipairs(redis.call('ZRANGE', PODS, 0, -1)) do
        if client_of(incarnation) then -- else a stranger put it there
            hint(incarnation, 'l' .. after)
        end
    end
end
return 'OK'
