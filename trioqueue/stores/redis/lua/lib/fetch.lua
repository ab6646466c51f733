-- Reading a mailbox's beginning, for the scripts that hand work out.

-- The first commands, bounded in count and bytes; the first one always comes.
local function batch(queue_key, want)
    local commands, size = redis.call('LRANGE', queue_key, 0, want - 1), 0
    for i = 1, #commands do
        size = size + #commands[i]
        if i > 1 and size > MAX_BATCH_BYTES then
            for j = #commands, i, -1 do
                commands[j] = nil
            end
            break
        end
    end
    return commands
end

-- The ids of commands whose callers have gone; count as the entity's hash has it.
local function cancels(entity_key, count)
    local ids = {}
    if count and count ~= '0' then
        for _, field in ipairs(redis.call('HKEYS', entity_key)) do
            local id = string.match(field, '^cancel:(.*)$')
            if id then
                ids[#ids + 1] = id
            end
        end
    end
    return ids
end

-- Forgets all marks of an entity whose mailbox is empty; count as its hash has it.
local function forget_cancels(entity_key, name, count)
    if count then
        for _, id in ipairs(cancels(entity_key, count)) do
            redis.call('HDEL', entity_key, 'cancel:' .. id)
        end
        redis.call('HDEL', entity_key, 'cancels')
        redis.call('ZREM', MARKED, name)
    end
end
