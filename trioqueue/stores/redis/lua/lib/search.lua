-- Looking for one command in a mailbox, for the scripts that are asked about it.

-- The place (from 0) of the command whose envelope begins with these bytes; nil: it is not there.
local function place_of(queue_key, beginning)
    local from, page = 0, nil
    repeat
        page = redis.call('LRANGE', queue_key, from, from + 999)
        for i = 1, #page do
            local space = string.find(page[i], ' ', 1, true)
            if space and string.sub(page[i], space + 1, space + #beginning) == beginning then
                return from + i - 1
            end
        end
        from = from + 1000
    until #page < 1000
    return nil
end
