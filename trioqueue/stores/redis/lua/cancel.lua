-- Marks a command whose caller has gone, and tells the entity's owner; nothing is taken out of the mailbox.
-- include: common mark
--
-- KEYS[7] e, KEYS[8] q  of the entity
-- KEYS[9] result        of the command: there is one where somebody waited and it is settled
-- ARGV[2] name
-- ARGV[3] command id
--
-- Returns TOLD | LATE (nothing is queued, or it is settled)
-- Keeps I1
if redis.call('LLEN', KEYS[8]) == 0 or redis.call('EXISTS', KEYS[9]) == 1 then
    return 'LATE'
end
redis.call('HDEL', META, '_') -- a first write that a full server allows
mark(KEYS[7], ARGV[2], ARGV[3])
return 'TOLD'
