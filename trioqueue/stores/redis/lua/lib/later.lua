-- Commands that are put off: needs common.
--
-- later   zset  "number id" -> when it is due; the numbers, of one width, keep the order of what is due at one moment
-- delayed hash  id -> "number accepted_us bytes-of-the-name " .. name .. envelope; a "+" before the
--         time: for the urgent lane

-- Keeps a command until it is due, for that lane, and tells the pod that keeps the clock where it is the first one.
local function put_off(later, delayed, name, id, envelope, delay_us, now, lane)
    local number = string.format('%016.0f', redis.call('HINCRBY', META, 'put_off', 1))
    local member = number .. ' ' .. id
    redis.call('ZADD', later, text(now + delay_us), member)
    redis.call('HSET', delayed, id, number .. ' ' .. lane .. text(now) .. ' ' .. #name .. ' ' .. name .. envelope)
    if redis.call('ZRANGE', later, 0, 0)[1] == member then
        local clock = redis.call('HGET', META, 'clock')
        if clock then
            hint(clock, 't')
        end
    end
end

-- Reads what put_off kept: {number, name, element of a mailbox}; nil: there is none.
local function kept(delayed, id)
    local value = redis.call('HGET', delayed, id) or ''
    local number, accepted, size, rest = string.match(value, '^(%d+) (%+?%d+) (%d+) (.*)$')
    if not number then
        return nil -- what a stranger put there is none either
    end
    size = tonumber(size)
    return { number = number, name = string.sub(rest, 1, size), command = accepted .. ' ' .. string.sub(rest, size + 1) }
end

-- Takes a command out that is not to wait any longer.
local function take_out(later, delayed, number, id)
    redis.call('ZREM', later, number .. ' ' .. id)
    redis.call('HDEL', delayed, id)
end
