-- Adding to the end of a mailbox: needs common.

-- Puts the commands of x = {q, commands} there.
local function append(x)
    for from = 1, #x.commands, 5000 do -- unpack has a limit near 8000
        redis.call('RPUSH', x.q, unpack(x.commands, from, math.min(from + 4999, #x.commands)))
    end
end

-- Wakes x = {name, eager}, which is nobody's or has got work; an eager worker is told of all that comes.
local function wake(x, mode, owner)
    if mode == 'parked' and redis.call('ZADD', WAKE, 'NX', number_of(owner), x.name) == 1 or mode == 'active' and x.eager then
        hint(owner, 'w' .. x.name)
    end
end
