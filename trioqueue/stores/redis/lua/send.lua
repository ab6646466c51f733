-- Takes groups of commands into their mailboxes, each group once, and wakes, places or claims their entities.
-- include: common feed
--
-- A group is taken whole or not at all.  All groups of one call are read and checked before the first write, so an
-- error (a full server, say) leaves none of them taken.
--
-- KEYS[7]  producer  string  "lowest highest gaps?" sequence of this sender; lives a day
-- KEYS[8]  gaps      zset    sequences between them that were not seen; v<sequence>: voided
-- KEYS[9…]           for each type: load (zset), ready (zset)
-- KEYS[…]            for each entity: e (hash), q (list)
-- KEYS[…]            for each wish: s (string)
-- KEYS[…]            idempotency keys (string), as the commands name them by number
-- KEYS[…]            the last two, where a command is put off: later (zset), delayed (hash of their envelopes)
-- ARGV[2] low          lowest sequence that the sender has not settled
-- ARGV[3] incarnation  of the sender's own pod, or ""
-- ARGV[4] generation   it registered with, or ""
-- ARGV[5] types        how many; for each: name, limit (commands that a mailbox may hold for a sender; 0: any)
-- ARGV[…] entities     how many; for each: name, number of its type
-- ARGV[…] groups       how many; for each: sequence, runs, terms (1: its commands have some, and each is a run of its own)
--                      and for each run: number of its entity, commands, their envelopes, and of its terms: id, delay_us,
--                      number of its idempotency key (0: none), key_ms, lane ("+": urgent, or "")
-- ARGV[…] wishes       until the end, and an incarnation's only to the server of its generation; for each: number of its
--                      entity, fetch (commands wanted with a claim), have (version of the state it holds), eager (as
--                      claim has it)
--
-- Returns, in one list (flat) unless it is one word, for each group OK | DUPLICATE | TOO_LARGE (a command of it is; its
--   number stays open) | FULL name (of the first mailbox that is; likewise) | KNOWN id (that of the first command with
--   this key, maybe its own; it counts as taken), then for each wish what claim answers | NOT_CLAIMED
-- Keeps I3 I4 I5 I6 I13
local PRODUCER, GAPS = KEYS[7], KEYS[8]
local told_low, incarnation, generation = tonumber(ARGV[2]), ARGV[3], ARGV[4]
local now = time_us()

local at, key, types, entities = 6, 9, {}, {}
for i = 1, tonumber(ARGV[5]) do
    types[i] = { name = ARGV[at], limit = tonumber(ARGV[at + 1]), load = KEYS[key], ready = KEYS[key + 1] }
    at, key = at + 2, key + 2
end
local count, seldom = tonumber(ARGV[at]), false -- whether there is more to do than pushing and waking
at = at + 1
for i = 1, count do
    local type = types[tonumber(ARGV[at + 1])]
    local e, q = KEYS[key], KEYS[key + 1]
    local h = redis.call('HMGET', e, 'mode', 'owner', 'eager')
    local x = { name = ARGV[at], limit = type.limit, commands = {}, e = e, q = q, mode = h[1], owner = h[2], eager = h[3],
        length = redis.call('LLEN', q) }
    if not x.mode then
        seldom = true
        x.type, x.load, x.ready = type.name, type.load, type.ready
        if not type.is_looked_at then
            type.is_looked_at = true
            redis.call('ZCARD', x.load) -- raises for a key of another type, before anything is written; so do others
            redis.call('ZCARD', x.ready)
        end
    end
    entities[i] = x
    at, key = at + 2, key + 2
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

local groups = tonumber(ARGV[at])
at = at + 1
for g = 1, groups do
    local sequence, runs, with_terms = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), ARGV[at + 2] == '1'
    at = at + 3
    local following, too_large, limited = at, false, false
    for _ = 1, runs do
        limited = limited or entities[tonumber(ARGV[following])].limit > 0
        local last = following + 1 + tonumber(ARGV[following + 1])
        for i = following + 2, last do
            too_large = too_large or #ARGV[i] > MAX_COMMAND_BYTES
        end
        following = last + (with_terms and 6 or 1)
    end

    -- No copy of one that is too large was ever taken, whatever its number.
    local new = not too_large and (sequence > high or missed[sequence]
        or sequence >= low and gappy and not filled[sequence] and redis.call('ZSCORE', GAPS, sequence))

    -- The command that the group's key stands for.  A group with a key is one command.
    local first = nil
    if with_terms and runs == 1 and not too_large and tonumber(ARGV[at + 5]) > 0 then
        local name = KEYS[tonumber(ARGV[at + 5])]
        first = keyed[name] and keyed[name].id or redis.call('GET', name)
    end

    -- The first entity for whose mailbox these commands are too many.
    local full = nil
    if limited and new and not first then
        local more, run = {}, at
        while run < following and not full do
            local x, size = entities[tonumber(ARGV[run])], tonumber(ARGV[run + 1])
            if x.limit > 0 and (not with_terms or tonumber(ARGV[run + 4]) == 0) then
                more[x] = (more[x] or x.length + #x.commands + #(x.urgent or {})) + size
                full = more[x] > x.limit and x.name
                x.is_full = x.is_full or full and (x.mode or #x.commands > 0 or x.urgent) -- else it holds nothing
            end
            run = run + size + (with_terms and 7 or 2)
        end
    end

    local fresh = new and not first and not full
    words[g] = too_large and 'TOO_LARGE' or first and 'KNOWN' .. ' ' .. first or full and 'FULL' .. ' ' .. full
        or fresh and 'OK' or 'DUPLICATE'
    if new and not full then
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
    while at < following do
        local x, size = entities[tonumber(ARGV[at])], tonumber(ARGV[at + 1])
        local from = at + 2
        at = from + size + (with_terms and 5 or 0)
        -- A refused group begins with nothing: its answer may be lost, and its next copy is not known for one.
        x.heard = x.heard or not too_large and not full
        if fresh and with_terms then
            local data, id, delay, number = ARGV[from], ARGV[from + 1], tonumber(ARGV[from + 2]), tonumber(ARGV[from + 3])
            local key_ms, lane = ARGV[from + 4], ARGV[from + 5]
            if number > 0 then
                keyed[KEYS[number]] = { id = id, ms = key_ms }
            end
            if delay > 0 then
                put[#put + 1] = { x.name, id, data, delay, lane }
            elseif lane ~= '' then
                x.urgent = x.urgent or {}
                x.urgent[#x.urgent + 1] = lane .. accepted .. data
                seldom = true
            else
                x.commands[#x.commands + 1] = accepted .. data
            end
        elseif fresh then
            local commands, before = x.commands, #x.commands + 1 - from
            for i = from, from + size - 1 do
                commands[before + i] = accepted .. ARGV[i]
            end
        elseif not new and not too_large then
            x.repeated = true
        end
    end
end

local wished = at <= #ARGV
seldom = seldom or wished or #put > 0
-- A send may go to any server, but as an incarnation's with a wish to none that is new, so that nothing is claimed there
-- before a join has begun the quarantine.
local mine = nil
if seldom and incarnation ~= '' and not refused(generation, incarnation) then
    mine = incarnation
end
while at <= #ARGV do
    local x = entities[tonumber(ARGV[at])]
    x.fetch, x.have, x.eager = tonumber(ARGV[at + 1]), ARGV[at + 2], ARGV[at + 3] == '1' and '1' or x.eager
    if mine and (not x.mode or x.owner == mine) then -- else it is not begun with
        x.stored = redis.call('GET', KEYS[key])
    end
    at, key = at + 4, key + 1
end
local LATER, DELAYED = KEYS[#KEYS - 1], KEYS[#KEYS]
if #put > 0 then
    redis.call('ZCARD', LATER)
    redis.call('HLEN', DELAYED)
end

gappy = gappy or next(missed) ~= nil
redis.call('SET', PRODUCER, string.format('%.0f %.0f %d', low, high, gappy and 1 or 0), 'PX', '86400000')
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
    if x.is_full then
        redis.call('HSET', x.e, 'full', accepted .. x.limit) -- for whoever asks why nothing comes in
    end
end
for name, one in pairs(keyed) do
    redis.call('SET', name, one.id, 'PX', one.ms)
end
local settle, finish -- an entity with which there is more to do; and what they leave to do
if seldom then
    -- include: place lanes fetch marked begin later

    for _, one in ipairs(put) do
        put_off(LATER, DELAYED, one[1], one[2], one[3], one[4], now, one[5])
    end

    finish = keep_floor

    function settle(x)
        local comes, claimable = #x.commands > 0 or x.urgent, false
        if x.fetch and mine and x.heard then
            if not x.mode and comes and choose(x.load, mine, nil) == mine then
                x.is_new = x.length == 0 and not x.urgent and not held_types -- then nothing keeps it from beginning
                if x.is_new then
                    list(x, mine)
                else
                    own(x, mine)
                end
                x.mode, x.owner = 'parked', mine
            end
            -- A repeated send claims anew: the claim that its first copy answered is lost.
            claimable = x.owner == mine and (x.mode == 'parked' or x.repeated)
        end
        if comes and claimable then
            redis.call('ZADD', WAKE, 'NX', number_of(mine), x.name)
            push(x)
        elseif comes then
            queue(x, x.mode, x.owner, mine, now)
        end
        if x.fetch then
            words[#words + 1] = claimable and begin(x, mine, x.have, x.fetch, now) or 'NOT_CLAIMED'
        end
    end
end
for i = 1, count do
    local x = entities[i]
    if x.fetch or x.urgent or not x.mode then
        settle(x)
    elseif #x.commands > 0 then
        append(x)
        wake(x, x.mode, x.owner)
    end
end
if finish then
    finish()
end
if #words == 1 then
    return words[1] -- Redis is slow to make a list of it
end
if wished then
    -- include: flat
    return flat(words)
end
return words
