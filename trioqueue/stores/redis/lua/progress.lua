-- Notes the newest word on how far a command is, and tells who waits for it.
-- include: common
--
-- KEYS[7] progress  string  of the command
-- ARGV[2] command id
-- ARGV[3] client      that is told; "": nobody
-- ARGV[4] word
-- ARGV[5] keep_ms
--
-- Returns OK
-- Keeps I2
redis.call('HDEL', META, '_') -- a first write that a full server allows
redis.call('SET', KEYS[7], ARGV[4], 'PX', ARGV[5])
if ARGV[3] ~= '' then
    redis.call('PUBLISH', CHANNEL .. ARGV[3], 'p' .. ARGV[2] .. ' ' .. ARGV[4])
end
return 'OK'
