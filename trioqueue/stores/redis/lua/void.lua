-- Spends a group's sequence number, unless the group was taken: after it, no copy that is still under way counts.
-- include: common
--
-- KEYS[7] producer  string  as for send
-- KEYS[8] gaps      zset    as for send; a voided number is remembered as "v<sequence>", until it is below the lowest
-- ARGV[2] low       lowest sequence that the sender has not settled
-- ARGV[3] sequence  the group's
--
-- Returns ACCEPTED (it was taken) | VOIDED
-- Keeps I3 I4
local PRODUCER, GAPS = KEYS[7], KEYS[8]
local told_low, sequence = tonumber(ARGV[2]), tonumber(ARGV[3])
local low, high, gappy = 1, 0, false
local seen = redis.call('GET', PRODUCER)
if seen then
    local a, b, c = string.match(seen, '^(%d+) (%d+) (%d)$')
    low, high, gappy = tonumber(a), tonumber(b), c == '1'
end
low = math.max(low, told_low)
if gappy and redis.call('ZSCORE', GAPS, 'v' .. text(sequence)) then
    return 'VOIDED' -- a copy of this request ran before, and its answer was lost
end
local in_gap = sequence >= low and gappy and redis.call('ZSCORE', GAPS, sequence)
if sequence <= high and not in_gap then
    return 'ACCEPTED'
end
redis.call('HDEL', META, '_') -- a first write that a full server allows
if in_gap then
    redis.call('ZREM', GAPS, sequence)
else
    for number = math.max(high + 1, low), sequence - 1 do
        redis.call('ZADD', GAPS, number, number)
    end
    high = sequence
end
redis.call('ZADD', GAPS, sequence, 'v' .. text(sequence))
redis.call('ZREMRANGEBYSCORE', GAPS, '-inf', '(' .. text(low))
redis.call('PEXPIRE', GAPS, 86400000)
redis.call('SET', PRODUCER, text(low) .. ' ' .. text(high) .. ' 1', 'PX', 86400000)
return 'VOIDED'
