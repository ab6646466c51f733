-- Tells all clients that watch what has happened.
-- include: common
--
-- KEYS[7] watchers  zset  "client type" -> until when (us)
-- ARGV[2] events
--
-- Returns how many were told
-- Keeps I15
local told, count = {}, 0
for _, watcher in ipairs(redis.call('ZRANGEBYSCORE', KEYS[7], '(' .. text(time_us()), '+inf')) do
    local client = string.match(watcher, '^(%S+) ')
    if client and not told[client] then
        told[client], count = true, count + 1
    end
end
redis.call('HDEL', META, '_') -- a first write that a full server allows
for client in pairs(told) do
    redis.call('PUBLISH', CHANNEL .. client, 'e' .. ARGV[2])
end
return count
