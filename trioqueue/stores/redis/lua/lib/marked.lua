-- Reading and forgetting the marks of cancelled commands: needs common.

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
