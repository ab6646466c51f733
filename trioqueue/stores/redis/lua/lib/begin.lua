-- Claiming, for claim and for a send that claims: needs common, fetch and marked.

local epoch_floor, kept_floor -- read once a call, and as it is stored

-- Stores the highest epoch that was given, once a call.  If the call fails before, nobody was told any of its epochs, and
-- each is in its entity's hash, above which the next claim goes.
local function keep_floor()
    if epoch_floor ~= kept_floor then
        kept_floor = epoch_floor
        redis.call('HSET', META, 'epoch_floor', text(epoch_floor))
    end
end

-- Begins with x = {name, e, q, s, eager} for an incarnation; eager is "1" where its worker handles several commands at
-- once, and so is told of each that comes.  Without s, its value is x.stored.  length: commands that it had before
-- x.commands and x.urgent came, where that is known.  is_new: it has no hash yet.
-- Answers what claim answers.
local function begin(x, incarnation, have, fetch, now)
    local h = x.is_new and { incarnation } or redis.call('HMGET', x.e, 'owner', 'epoch', 'done', 'attempts', 'crashes', 'mark', 'due', 'unknown', 'cancels',
        'proven', 'paused', 'overruled', 'fetched', 'mode')
    if h[1] ~= incarnation then
        return 'NOT_YOURS'
    end
    local is_all = x.length == 0 and not x.urgent and #x.commands <= fetch
    local commands, state = is_all and bounded(x.commands) or batch(x.q, fetch), x.stored
    if x.s then
        state = redis.call('GET', x.s)
    end
    local crashes, due = tonumber(h[5] or 0), tonumber(h[7] or 0)
    local proven = h[10]
    if h[6] and #commands > 0 then
        crashes = crashes + 1
        redis.call('HSET', x.e, 'crashes', crashes)
        redis.call('HDEL', x.e, 'mark')
        if h[6] == 'alone' then
            proven = '1'
            redis.call('HSET', x.e, 'proven', 1)
        end
    end
    if h[11] or held_types and #commands > 0 and type_held(x.name) then
        redis.call('HSET', x.e, 'mode', 'parked')
        if h[14] == 'active' then -- the answer to an earlier copy may still be on its way: only its owner lets go of it
            redis.call('HSET', x.e, 'overruled', '1')
        end
        return 'PAUSED'
    end
    if h[12] then
        redis.call('HDEL', x.e, 'overruled') -- the worker that had it has ended
    end
    if due > now and due - now <= MAX_BACKOFF_US then
        redis.call('HSET', x.e, 'mode', 'parked')
        return { 'BACKOFF', due - now }
    end
    -- One death among others may be anybody's fault, and most are nobody's: after two the head is handed out alone.
    if #commands > 0 and (crashes > 1 or proven) then
        local suspect = redis.call('HGET', FLEET, 'suspect:' .. incarnation)
        if suspect and suspect ~= x.name then
            redis.call('HSET', x.e, 'mode', 'parked')
            return 'LATER'
        end
        redis.call('HSET', FLEET, 'suspect:' .. incarnation, x.name)
        commands = { commands[1] }
    end
    if not epoch_floor then
        epoch_floor = tonumber(redis.call('HGET', META, 'epoch_floor') or 0)
        kept_floor = epoch_floor
    end
    epoch_floor = math.max(tonumber(h[2] or 0) + 1, epoch_floor + 1, now)
    local epoch = text(epoch_floor)
    if #commands == 0 then
        redis.call('HSET', x.e, 'mode', 'parked', 'epoch', epoch)
        redis.call('ZREM', WAKE, x.name)
        return { 'EMPTY', epoch }
    end
    redis.call('HSET', x.e, 'mode', 'active', 'owner', incarnation, 'epoch', epoch, 'fetched',
        math.max(tonumber(h[13] or 0), tonumber(h[3] or 0) + #commands))
    if h[7] then
        redis.call('HDEL', x.e, 'due')
    end
    if x.eager == '1' then
        redis.call('HSET', x.e, 'eager', 1)
    end
    local version = ''
    if state then
        -- What no commit wrote has no version: it goes out whole, and whoever reads it says that it is none.
        version = string.match(state, '^(%d+%.%d+) ') or ''
        if version ~= '' then
            state = version == have or string.sub(state, #version + 2) -- true arrives as 1: not modified
        end
    end
    local unknown = h[8] and now - tonumber(h[8]) or 0
    return { 'CLAIMED', epoch, h[3] or '0', now, version, state, h[4] or '0', crashes, proven and 1 or 0, unknown,
        cancels(x.e, h[9]), commands }
end
