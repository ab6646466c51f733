-- Cancels a command after a look at where it is; nothing is taken from the middle of a mailbox.
-- include: common mark search later
--
-- A worker starts nothing but the head, and sees the mark with each commit: so what is behind it never starts.
--
-- KEYS[7] e, KEYS[8] q        of the entity
-- KEYS[9] later, KEYS[10] delayed
-- KEYS[11] result             of the command, which nobody else writes for one that is put off
-- ARGV[2] name
-- ARGV[3] command id
-- ARGV[4] beginning           what its envelope begins with
-- ARGV[5] outcome, ARGV[6] keep_ms
-- ARGV[7] looked_at           how many of the last commands have been looked at
--
-- Returns DROPPED | TOLD (it is the head of an entity that is awake: it may run) | LATE (it is not there)
--   | how many have been looked at now: ask again from there
-- Keeps I1 I4
local E, Q, LATER, DELAYED, name, id = KEYS[7], KEYS[8], KEYS[9], KEYS[10], ARGV[2], ARGV[3]
local one = kept(DELAYED, id)
local place, looked_at
if not one then
    place, looked_at = place_of(Q, ARGV[4], tonumber(ARGV[7]))
    if not place then
        -- The answer to an earlier copy of this request may be lost.
        return looked_at or redis.call('GET', KEYS[11]) == ARGV[5] and 'DROPPED' or 'LATE'
    end
end
redis.call('HDEL', META, '_') -- a first write that a full server allows
if one then
    take_out(LATER, DELAYED, one.number, id)
    redis.call('SET', KEYS[11], ARGV[5], 'PX', ARGV[6])
    return 'DROPPED'
end
mark(E, name, id)
return place == 0 and redis.call('HGET', E, 'mode') == 'active' and 'TOLD' or 'DROPPED'
