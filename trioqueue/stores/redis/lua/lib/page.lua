-- Reading what is one incarnation's in an index of all: needs nothing.

-- A page of the entities of an index (zset, entity -> number of its incarnation) with a number.
-- By rank: to skip so many by score would take as long as to read them, and all of them are read page by page.
local function page(index, number, offset, count)
    local before = redis.call('ZCOUNT', index, '-inf', '(' .. number)
    local last = math.min(offset + count, redis.call('ZCOUNT', index, number, number)) - 1
    if last < offset then
        return {}
    end
    return redis.call('ZRANGE', index, before + offset, before + last)
end
