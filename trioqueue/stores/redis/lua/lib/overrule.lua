-- Changing a mailbox behind the back of a worker that has fetched its beginning: needs common.

-- Notes that so many commands were taken out of the mailbox's beginning, or (below 0) put there, without being settled.
local function moved_on(entity_key, count)
    local h = redis.call('HMGET', entity_key, 'fetched', 'done')
    local done = tonumber(h[2] or 0)
    local fetched = math.max(tonumber(h[1] or 0), done) - count
    if fetched > done then
        redis.call('HSET', entity_key, 'fetched', text(fetched))
    else
        redis.call('HDEL', entity_key, 'fetched')
    end
end

-- Forgets what was noted about a head that is the head no more.
local function forget_head(entity_key, name, owner)
    redis.call('HDEL', entity_key, 'attempts', 'crashes', 'proven', 'unknown', 'due', 'mark')
    if owner and redis.call('HGET', FLEET, 'suspect:' .. owner) == name then
        redis.call('HDEL', FLEET, 'suspect:' .. owner)
    end
end

-- Gives an entity that is active a new epoch that nobody has, so that what its worker commits is refused; it claims anew.
-- Until it does, its handler may still run: it is `overruled`, and nobody takes it away from its owner.
local function overrule(entity_key, mode, epoch, now)
    if mode ~= 'active' then
        return
    end
    local floor = tonumber(redis.call('HGET', META, 'epoch_floor') or 0)
    local new = text(math.max(tonumber(epoch or 0) + 1, floor + 1, now))
    redis.call('HSET', META, 'epoch_floor', new)
    redis.call('HSET', entity_key, 'mode', 'parked', 'epoch', new, 'overruled', '1')
end
