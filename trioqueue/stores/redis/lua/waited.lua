-- Writes something, so that a WAIT behind it on the same connection waits for replicas to have all that is older.
-- include: common
--
-- Returns how far the replication had come before; 0: there was none, so a replica that has confirmed nothing yet looks
-- as if it had everything
-- Keeps P4
redis.call('HDEL', META, '_') -- a first write that a full server allows
redis.call('HSET', META, 'waited', '1')
return tonumber(string.match(redis.call('INFO', 'replication'), 'master_repl_offset:(%d+)'))
