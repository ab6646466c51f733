-- Takes groups of commands into their mailboxes, each group once, and wakes, places or claims their entities.
-- include: common place fetch begin
--
-- A group is taken whole or not at all.  All groups of one call are read and checked before the first write, so an
-- error (a full server, say) leaves none of them taken.
--
-- KEYS[7]  producer  string  "lowest highest gaps?" sequence of this sender; lives a day
-- KEYS[8]  gaps      zset    sequences between them that were not seen; v<sequence>: voided
-- KEYS[9…]           for each type: load (zset), ready (zset)
-- KEYS[…]            for each entity: e (hash), q (list), s (string)
-- ARGV[2] low          lowest sequence that the sender has not settled
-- ARGV[3] incarnation  of the sender's own pod, or ""
-- ARGV[4] generation   it registered with, or ""
-- ARGV[5] types        how many; then each type's name
-- ARGV[…] entities     how many; for each: name, number of its type, fetch (commands wanted with a claim; 0: no wish
--                      to claim), have (version of the state it holds)
-- ARGV[…] groups       how many; for each: sequence, commands, then for each command: number of its entity, envelope
--
-- Returns {for each group: OK | DUPLICATE | TOO_LARGE (a command of it is; its number stays open),
--   for each wish in the order of entities: what claim answers | NOT_CLAIMED}
-- Keeps I3 I4 I5 I6 I13
local PRODUCER, GAPS = KEYS[7], KEYS[8]
local told_low, incarnation, generation = tonumber(ARGV[2]), ARGV[3], ARGV[4]
local now = time_us()

local at = 5
local function argument()
    local value = ARGV[at]
    at = at + 1
    return value
end

local types, entities, key, wished = {}, {}, 9, false
for i = 1, tonumber(argument()) do
    types[i] = { name = argument(), load = KEYS[key], ready = KEYS[key + 1] }
    redis.call('ZCARD', KEYS[key]) -- raises for a key of another type, before anything is written; so do those below
    redis.call('ZCARD', KEYS[key + 1])
    key = key + 2
end
for i = 1, tonumber(argument()) do
    local name, type = argument(), types[tonumber(argument())]
    local x = { name = name, type = type.name, load = type.load, ready = type.ready, commands = {},
        e = KEYS[key], q = KEYS[key + 1], s = KEYS[key + 2], fetch = tonumber(argument()), have = argument() }
    local h = redis.call('HMGET', x.e, 'mode', 'owner')
    x.mode, x.owner = h[1], h[2]
    redis.call('LLEN', x.q)
    if x.fetch > 0 then
        wished = true
        redis.call('STRLEN', x.s)
    end
    entities[i] = x
    key = key + 3
end

-- A plain "last number" would lose the group that is overtaken by a later one; without the lowest, gaps would grow
-- without bound.
local low, high, gappy = 1, 0, false
local seen = redis.call('GET', PRODUCER)
if seen then
    local a, b, c = string.match(seen, '^(%d+) (%d+) (%d)$')
    low, high, gappy = tonumber(a), tonumber(b), c == '1'
end
low = math.max(low, told_low)
local words, missed, filled = {}, {}, {} -- the latter two by number; what this call opens it may also fill
for g = 1, tonumber(argument()) do
    local sequence, count, fresh, too_large = tonumber(argument()), tonumber(argument()), false, false
    for i = at + 1, at + 2 * count - 1, 2 do
        too_large = too_large or #ARGV[i] > MAX_COMMAND_BYTES
    end
    if too_large then
        fresh = false -- nor was any copy of it ever taken, whatever its number
    elseif sequence > high then
        for number = math.max(high + 1, low), sequence - 1 do
            missed[number] = true
        end
        high, fresh = sequence, true
    elseif missed[sequence] then
        missed[sequence], fresh = nil, true
    elseif sequence >= low and gappy and not filled[sequence] and redis.call('ZSCORE', GAPS, sequence) then
        filled[sequence], fresh = true, true
    end
    words[g] = too_large and 'TOO_LARGE' or fresh and 'OK' or 'DUPLICATE'
    for _ = 1, count do
        local x, data = entities[tonumber(argument())], argument()
        if fresh then
            x.commands[#x.commands + 1] = text(now) .. ' ' .. data
        elseif not too_large then
            x.repeated = true
        end
    end
end

-- A send goes to any server, so only here is it seen that this one is new: then nothing is claimed before a join has
-- begun the quarantine.
local mine = nil
if incarnation ~= '' and (not wished or run_id() == generation) and not refused(generation, incarnation) then
    mine = incarnation
end

gappy = gappy or next(missed) ~= nil
redis.call('SET', PRODUCER, text(low) .. ' ' .. text(high) .. ' ' .. (gappy and '1' or '0'), 'PX', 86400000)
if gappy then
    for number in pairs(missed) do
        redis.call('ZADD', GAPS, number, number)
    end
    for number in pairs(filled) do
        redis.call('ZREM', GAPS, number)
    end
    redis.call('ZREMRANGEBYSCORE', GAPS, '-inf', '(' .. text(low))
    redis.call('PEXPIRE', GAPS, 86400000)
end

for _, x in ipairs(entities) do
    local claimable = false
    if x.fetch > 0 and mine then
        if not x.mode and #x.commands > 0 then
            if choose(x.load, mine, nil) == mine then
                own(x, mine)
                x.mode, x.owner = 'parked', mine
            end
        end
        -- A repeated send claims anew: the claim that its first copy answered is lost.
        claimable = x.owner == mine and (x.mode == 'parked' or x.repeated)
    end
    if #x.commands > 0 then
        if claimable then
            redis.call('ZADD', WAKE, 'NX', number_of(mine), x.name)
            for from = 1, #x.commands, 5000 do
                redis.call('RPUSH', x.q, unpack(x.commands, from, math.min(from + 4999, #x.commands)))
            end
        else
            queue(x, x.mode, x.owner, x.commands, mine, now)
        end
    end
    if x.fetch > 0 then
        words[#words + 1] = claimable and begin(x, mine, x.have, x.fetch, now) or { 'NOT_CLAIMED' }
    end
end
return words
