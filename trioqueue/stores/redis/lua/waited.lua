-- Writes something, so that a WAIT behind it on the same connection waits for replicas to have all that is older.
--
-- KEYS[1] meta
--
-- Returns nothing
-- Keeps P4
redis.call('HDEL', KEYS[1], '_') -- a first write that a full server allows
redis.call('HSET', KEYS[1], 'waited', '1')
