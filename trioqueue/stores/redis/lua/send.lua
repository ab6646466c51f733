-- Takes groups of commands into their mailboxes, each group once, and wakes, places or claims their entities.
-- include: common place lanes fetch marked begin later
--
-- A group is taken whole or not at all.  All groups of one call are read and checked before the first write, so an
-- error (a full server, say) leaves none of them taken.
--
-- KEYS[7]  producer  string  "lowest highest gaps?" sequence of this sender; lives a day
-- KEYS[8]  gaps      zset    sequences between them that were not seen; v<sequence>: voided
-- KEYS[9]  later    zset    commands that are put off
-- KEYS[10] delayed  hash    their envelopes
-- KEYS[11…]          for each type: load (zset), ready (zset)
-- KEYS[…]            for each entity: e (hash), q (list), s (string)
-- KEYS[…]            idempotency keys (string), as the commands name them by number
-- ARGV[2] low          lowest sequence that the sender has not settled
-- ARGV[3] incarnation  of the sender's own pod, or ""
-- ARGV[4] generation   it registered with, or ""
-- ARGV[5] types        how many; for each: name, limit (commands that a mailbox may hold for a sender; 0: any)
-- ARGV[…] entities     how many; for each: name, number of its type, fetch (commands wanted with a claim; 0: no wish
--                      to claim), have (version of the state it holds), eager (as claim has it)
-- ARGV[…] groups       how many; for each: sequence, commands, arguments of a command (2, or 7 if any has terms), then for
--                      each command: number of its entity, envelope, and of its terms: id, delay_us, number of its
--                      idempotency key (0: none), key_ms, lane ("+": urgent, or "")
--
-- Returns {for each group: OK | DUPLICATE | TOO_LARGE (a command of it is; its number stays open) | FULL name (that
--   mailbox is; likewise) | KNOWN id (that of the first command with this key, maybe its own; it counts as taken),
--   for each wish in the order of entities: what claim answers | NOT_CLAIMED}
-- Keeps I3 I4 I5 I6 I13
local PRODUCER, GAPS, LATER, DELAYED = KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local told_low, incarnation, generation = tonumber(ARGV[2]), ARGV[3], ARGV[4]
local now = time_us()

local at = 5
local function argument()
    local value = ARGV[at]
    at = at + 1
    return value
end

local types, entities, key, wished = {}, {}, 11, false
for i = 1, tonumber(argument()) do
    types[i] = { name = argument(), limit = tonumber(argument()), load = KEYS[key], ready = KEYS[key + 1] }
    redis.call('ZCARD', KEYS[key]) -- raises for a key of another type, before anything is written; so do those below
    redis.call('ZCARD', KEYS[key + 1])
    key = key + 2
end
for i = 1, tonumber(argument()) do
    local name, type = argument(), types[tonumber(argument())]
    local x = { name = name, type = type.name, limit = type.limit, load = type.load, ready = type.ready, commands = {},
        e = KEYS[key], q = KEYS[key + 1], s = KEYS[key + 2], fetch = tonumber(argument()), have = argument(), eager = argument() }
    local h = redis.call('HMGET', x.e, 'mode', 'owner', 'eager')
    x.mode, x.owner, x.eager = h[1], h[2], x.eager == '1' and '1' or h[3]
    x.length = redis.call('LLEN', x.q)
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
local accepted = text(now) .. ' ' -- what a normal one begins with, once for all of them
local words, missed, filled = {}, {}, {} -- the latter two by number; what this call opens it may also fill
local keyed, put = {}, {} -- key -> {id, ms} to write; commands to put off

-- Says whether a group of this number was never taken, without noting it.
local function is_new(sequence)
    return sequence > high or missed[sequence]
        or sequence >= low and gappy and not filled[sequence] and redis.call('ZSCORE', GAPS, sequence)
end

local function note(sequence)
    if sequence > high then
        for number = math.max(high + 1, low), sequence - 1 do
            missed[number] = true
        end
        high = sequence
    elseif missed[sequence] then
        missed[sequence] = nil
    else
        filled[sequence] = true
    end
end

-- Names an entity for whose mailbox these commands are too many, or nil.
local function overfull(count, width)
    local more
    for i = at, at + width * count - 1, width do
        local x = entities[tonumber(ARGV[i])]
        if x.limit > 0 and (width == 2 or tonumber(ARGV[i + 3]) == 0) then
            more = more or {}
            more[x] = (more[x] or x.length + #x.commands + #(x.urgent or {})) + 1
            if more[x] > x.limit then
                return x.name
            end
        end
    end
    return nil
end

-- Names the command that the group's key stands for, or nil.  A group with a key is one command.
local function known()
    local number = tonumber(ARGV[at + 4])
    local name = number > 0 and KEYS[number]
    return name and (keyed[name] and keyed[name].id or redis.call('GET', name)) or nil
end

for g = 1, tonumber(argument()) do
    local sequence, count, width = tonumber(argument()), tonumber(argument()), tonumber(argument())
    local too_large = false
    for i = at + 1, at + width * count - 1, width do
        too_large = too_large or #ARGV[i] > MAX_COMMAND_BYTES
    end
    local new = not too_large and is_new(sequence) -- no copy of one that is too large was ever taken, whatever its number
    local first = width > 2 and count == 1 and not too_large and known()
    local full = new and not first and overfull(count, width)
    local fresh = new and not first and not full
    words[g] = too_large and 'TOO_LARGE' or first and 'KNOWN' .. ' ' .. first or full and 'FULL' .. ' ' .. full
        or fresh and 'OK' or 'DUPLICATE'
    if new and not full then
        note(sequence)
    end
    for i = at, at + width * count - 1, width do
        local x, data = entities[tonumber(ARGV[i])], ARGV[i + 1]
        -- A refused group begins with nothing: its answer may be lost, and its next copy is not known for one.
        x.heard = x.heard or not too_large and not full
        if fresh then
            local delay = width > 2 and tonumber(ARGV[i + 3]) or 0
            if width > 2 and tonumber(ARGV[i + 4]) > 0 then
                keyed[KEYS[tonumber(ARGV[i + 4])]] = { id = ARGV[i + 2], ms = ARGV[i + 5] }
            end
            local lane = width > 2 and ARGV[i + 6] or ''
            if delay > 0 then
                put[#put + 1] = { x.name, ARGV[i + 2], data, delay, lane }
            elseif lane ~= '' then
                x.urgent = x.urgent or {}
                x.urgent[#x.urgent + 1] = element_of(lane, now, data)
            else
                x.commands[#x.commands + 1] = accepted .. data
            end
        elseif not new and not too_large then
            x.repeated = true
        end
    end
    at = at + width * count
end
if next(keyed) or #put > 0 then
    redis.call('ZCARD', LATER)
    redis.call('HLEN', DELAYED)
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

for name, one in pairs(keyed) do
    redis.call('SET', name, one.id, 'PX', one.ms)
end
for _, one in ipairs(put) do
    put_off(LATER, DELAYED, one[1], one[2], one[3], one[4], now, one[5])
end
for _, x in ipairs(entities) do
    local claimable = false
    if x.fetch > 0 and mine and x.heard then
        if not x.mode and (#x.commands > 0 or x.urgent) then
            if choose(x.load, mine, nil) == mine then
                own(x, mine)
                x.mode, x.owner = 'parked', mine
            end
        end
        -- A repeated send claims anew: the claim that its first copy answered is lost.
        claimable = x.owner == mine and (x.mode == 'parked' or x.repeated)
    end
    if #x.commands > 0 or x.urgent then
        if claimable then
            redis.call('ZADD', WAKE, 'NX', number_of(mine), x.name)
            push(x)
        else
            queue(x, x.mode, x.owner, mine, now)
        end
    end
    if x.fetch > 0 then
        words[#words + 1] = claimable and begin(x, mine, x.have, x.fetch, now) or { 'NOT_CLAIMED' }
    end
end
return words
