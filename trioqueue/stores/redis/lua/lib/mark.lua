-- Marking a command whose caller has gone: needs common.

-- The mark is seen by claim, commit and beat, so the hint may be lost.  It goes with the command, at the latest when
-- the mailbox is empty.
local function mark(entity_key, name, id)
    if redis.call('HSET', entity_key, 'cancel:' .. id, text(time_us())) == 1 then
        redis.call('HINCRBY', entity_key, 'cancels', 1)
    end
    local owner = redis.call('HGET', entity_key, 'owner')
    if owner then
        redis.call('ZADD', MARKED, number_of(owner), name)
        hint(owner, 'c' .. id .. ' ' .. name)
    end
end
