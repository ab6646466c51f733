-- Puts commands that are due into their mailboxes, and names the next ones.
-- include: common place later
--
-- KEYS[7] later, KEYS[8] delayed
-- KEYS[9…] for each command: e, q of its entity, and load, ready of its type
-- ARGV[2] incarnation
-- ARGV[3] generation
-- ARGV[4] chunk       commands that the answer names
-- ARGV[5…] for each command: id, name and type of its entity
--
-- Returns GENERATION | WAIT | UNREGISTERED | {us until the next one is due; -1: there is none, id, name, … of those that
--   are due now}
-- Keeps I4 I5 I6 I13
local LATER, DELAYED = KEYS[7], KEYS[8]
local incarnation, generation, chunk = ARGV[2], ARGV[3], ARGV[4]
local no = refused(generation, incarnation)
if no then
    return no
end
redis.call('HDEL', META, '_') -- a first write that a full server allows
local now, key = time_us(), 9
for at = 5, #ARGV, 3 do
    local id, name = ARGV[at], ARGV[at + 1]
    local x = { name = name, type = ARGV[at + 2], e = KEYS[key], q = KEYS[key + 1], load = KEYS[key + 2], ready = KEYS[key + 3] }
    local one = kept(DELAYED, id)
    if one and one.name == name and tonumber(redis.call('ZSCORE', LATER, one.number .. ' ' .. id) or now + 1) <= now then
        local h = redis.call('HMGET', x.e, 'mode', 'owner')
        take_out(LATER, DELAYED, one.number, id)
        queue(x, h[1], h[2], { one.command }, incarnation, now)
    end
    key = key + 4
end
local answer = { -1 }
for _, member in ipairs(redis.call('ZRANGEBYSCORE', LATER, '-inf', text(now), 'LIMIT', 0, chunk)) do
    local id = string.sub(member, 18)
    local one = kept(DELAYED, id)
    if one and string.sub(member, 1, 16) == one.number then
        answer[#answer + 1] = id
        answer[#answer + 1] = one.name
    else
        redis.call('ZREM', LATER, member) -- a stranger put it there: it would be in the way for ever
    end
end
local first = redis.call('ZRANGE', LATER, 0, 0, 'WITHSCORES')
if first[1] then
    answer[1] = math.max(0, tonumber(first[2]) - now)
end
return answer
