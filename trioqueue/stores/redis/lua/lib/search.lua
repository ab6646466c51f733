-- Looking for one command in a mailbox, for the scripts that are asked about it: needs common.

local LOOK_AT = 1000 -- commands in one call, in which Redis serves nobody else; who asks goes on from there

-- The place (from 0) of the command whose envelope begins with these bytes, or nil and how many of the last commands
-- have been looked at, nil: all.  It is counted from the end, where nothing that is pushed, popped or put back
-- meanwhile moves a command to where was looked already.
local function place_of(queue_key, beginning, looked_at)
    local length, looked, size, step = redis.call('LLEN', queue_key), looked_at, 0, 10
    while looked < length and looked < looked_at + LOOK_AT and size < MAX_BATCH_BYTES do
        local page = redis.call('LRANGE', queue_key, -looked - step, -looked - 1)
        for i = 1, #page do
            size = size + #page[i]
            local space = string.find(page[i], ' ', 1, true)
            if space and string.sub(page[i], space + 1, space + #beginning) == beginning then
                return length - looked - #page + i - 1
            end
        end
        looked, step = looked + #page, 2 * step -- by then it shows whether they are large
    end
    return nil, looked < length and looked or nil
end
