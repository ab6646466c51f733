-- Writes something, so that a WAIT behind it on the same connection waits for replicas to have all that is older.
-- include: common
--
-- Returns nothing
-- Keeps P4
redis.call('HDEL', META, '_') -- a first write that a full server allows
redis.call('HSET', META, 'waited', '1')
