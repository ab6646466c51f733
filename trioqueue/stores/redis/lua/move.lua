-- Puts commands that are due into their mailboxes, and names the next ones.
-- include: common place feed lanes later
--
-- Any pod moves for all, so nothing is placed with the caller rather than with another.
--
-- KEYS[7] later, KEYS[8] delayed
-- KEYS[9…] for each command: e, q of its entity, and load, ready of its type
-- ARGV[2] incarnation
-- ARGV[3] generation
-- ARGV[4] chunk       commands that the answer names
-- ARGV[5…] for each command: id, name and type of its entity
--
-- Returns GENERATION | WAIT | UNREGISTERED | {us until the next one is due; -1: there is none, how many were put off once
--   more since a key of their entity or type is of another kind, id, name, … of those that are due now}
-- Keeps I4 I5 I6 I13
local AGAIN_US = 10000000 -- until a command is due again whose keys somebody else has written to
local LATER, DELAYED = KEYS[7], KEYS[8]
local incarnation, generation, chunk = ARGV[2], ARGV[3], ARGV[4]
local no = refused(generation, incarnation)
if no then
    return no
end

-- Says whether a write would raise, behind the ones before it: the command would be in no place any more.
local function is_foreign(x)
    local lengths = { redis.pcall('HLEN', x.e), redis.pcall('LLEN', x.q), redis.pcall('ZCARD', x.load), redis.pcall('ZCARD', x.ready) }
    for i = 1, #lengths do
        if type(lengths[i]) == 'table' then
            return true
        end
    end
    return false
end

redis.call('HDEL', META, '_') -- a first write that a full server allows
local now, key, foreign = time_us(), 9, 0
for at = 5, #ARGV, 3 do
    local id, name = ARGV[at], ARGV[at + 1]
    local x = { name = name, type = ARGV[at + 2], e = KEYS[key], q = KEYS[key + 1], load = KEYS[key + 2], ready = KEYS[key + 3] }
    local one = kept(DELAYED, id)
    if one and one.name == name and tonumber(redis.call('ZSCORE', LATER, one.number .. ' ' .. id) or now + 1) <= now then
        if is_foreign(x) then
            foreign = foreign + 1
            redis.call('ZADD', LATER, text(now + AGAIN_US), one.number .. ' ' .. id)
        else
            local h = redis.call('HMGET', x.e, 'mode', 'owner', 'eager')
            take_out(LATER, DELAYED, one.number, id)
            give_command(x, one.command)
            x.eager = h[3]
            queue(x, h[1], h[2], nil, now)
        end
    end
    key = key + 4
end
local answer, size = { -1, foreign }, 0
for _, member in ipairs(redis.call('ZRANGEBYSCORE', LATER, '-inf', text(now), 'LIMIT', 0, chunk)) do
    local id = string.sub(member, 18)
    local one = kept(DELAYED, id)
    if one and one.number .. ' ' .. id == member then
        size = size + #one.command
        if size > MAX_BATCH_BYTES and #answer > 2 then
            break
        end
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
