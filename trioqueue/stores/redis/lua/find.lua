-- Looks for a command that is not settled.
-- include: common search
--
-- KEYS[7] q           of the entity
-- KEYS[8] delayed
-- ARGV[2] command id
-- ARGV[3] beginning   what its envelope begins with
-- ARGV[4] looked_at   how many of the last commands have been looked at
--
-- Returns FOUND | MISSING | how many have been looked at now: ask again from there
-- Keeps I4
if redis.call('HGET', KEYS[8], ARGV[2]) then
    return 'FOUND'
end
local place, looked_at = place_of(KEYS[7], ARGV[3], tonumber(ARGV[4]))
return place and 'FOUND' or looked_at or 'MISSING'
