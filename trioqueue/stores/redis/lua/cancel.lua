-- Marks a command whose caller has gone, and tells the entity's owner; nothing is taken out of the mailbox.
-- include: common
--
-- The mark is seen by claim, commit and beat, so the hint may be lost.  It goes with the command, at the latest when
-- the mailbox is empty.
--
-- KEYS[7] e, KEYS[8] q  of the entity
-- KEYS[9] result        of the command: there is one where somebody waited and it is settled
-- ARGV[2] name
-- ARGV[3] command id
--
-- Returns TOLD | LATE (nothing is queued, or it is settled)
-- Keeps I1
local E, Q, name, id = KEYS[7], KEYS[8], ARGV[2], ARGV[3]
if redis.call('LLEN', Q) == 0 or redis.call('EXISTS', KEYS[9]) == 1 then
    return 'LATE'
end
redis.call('HDEL', META, '_') -- a first write that a full server allows
if redis.call('HSET', E, 'cancel:' .. id, text(time_us())) == 1 then
    redis.call('HINCRBY', E, 'cancels', 1)
end
local owner = redis.call('HGET', E, 'owner')
if owner then
    redis.call('ZADD', MARKED, number_of(owner), name)
    hint(owner, 'c' .. id .. ' ' .. name)
end
return 'TOLD'
