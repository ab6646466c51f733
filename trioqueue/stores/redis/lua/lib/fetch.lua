-- Reading a mailbox's beginning, for the scripts that hand work out.

-- So many of these commands as are a batch, which is bounded in bytes; the first one always comes.
local function bounded(commands)
    local size = 0
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

-- The first commands, bounded in count and bytes.
local function batch(queue_key, want)
    return bounded(redis.call('LRANGE', queue_key, 0, want - 1))
end
