-- Names the commands of the other scripts, and of the store's own reads, that this user may not call.
-- include: common
--
-- Redis rolls nothing back: a right that is missing would stop a script in its middle, so it has to be known before the
-- first one runs.  Each command is called on one key of its own, which is gone again at the end; without the right to
-- remove it, nothing is written at all.  Run as EVAL and as EVALSHA, as both are used.  The key that a command may touch
-- is checked by Redis when it takes the call.
--
-- KEYS[7] probe  hash, list, zset and string in turn; never there before or after
-- KEYS[8…]       one of every other kind, so that the user's key patterns are known to cover all
--
-- Returns {the names of what is denied, …}; none: all is granted
-- Keeps I3
local PROBE = KEYS[7]
local denied, failed = {}, nil

local function try(command, ...)
    local answer = redis.pcall(command, ...)
    if type(answer) == 'table' and answer.err then
        local said = string.lower(answer.err)
        -- In scripts the error has no word of its own; the first sentence is that of Redis 7 and 8, the other that of 6.2.
        if string.find(said, 'acl failure', 1, true) or string.find(said, 'user executing the script', 1, true) then
            denied[#denied + 1] = command
        else
            failed = failed or answer -- a replica, or a key that is not ours
        end
    end
end

try('hdel', META, '_')
try('del', PROBE)
if failed or #denied > 0 then
    return failed or denied
end
redis.call('HDEL', META, '_') -- a first write that a full server allows

try('time')
try('info', 'server')
try('exists', PROBE)
try('publish', CHANNEL .. '_', '') -- nobody is called that

try('hset', PROBE, 'field', '1')
try('hincrby', PROBE, 'field', 1)
try('hget', PROBE, 'field')
try('hmget', PROBE, 'field')
try('hgetall', PROBE)
try('hkeys', PROBE)
try('hlen', PROBE)
redis.call('DEL', PROBE)

try('rpush', PROBE, '1')
try('lpush', PROBE, '1')
try('lrange', PROBE, 0, 0)
try('lindex', PROBE, 0)
try('linsert', PROBE, 'before', '1', '0')
try('llen', PROBE)
try('ltrim', PROBE, 0, 0)
redis.call('DEL', PROBE)

try('zadd', PROBE, 1, 'member')
try('zincrby', PROBE, 1, 'member')
try('zscore', PROBE, 'member')
try('zcard', PROBE)
try('zcount', PROBE, 1, 2)
try('zrange', PROBE, 0, 0)
try('zrangebyscore', PROBE, 1, 2)
try('zremrangebyscore', PROBE, 1, 2)
try('zrem', PROBE, 'member')
redis.call('DEL', PROBE)

try('set', PROBE, '1')
try('get', PROBE)
try('pexpire', PROBE, 1000)
redis.call('DEL', PROBE)
return failed or denied
