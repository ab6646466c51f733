-- Reads how many commands wait in mailboxes, and the first of each.
-- include: common
--
-- KEYS[7…] q  of each entity
-- ARGV[2] longest  bytes of an envelope that are read at most: who only wants to know its name needs no megabyte
--
-- Returns {now_us, for each: {commands, the first one or nil}}
-- Keeps I5
local longest, answers = tonumber(ARGV[2]), { time_us() }
for i = 7, #KEYS do
    local first = redis.call('LRANGE', KEYS[i], 0, 0)[1]
    local begins = first and string.find(first, ' ', 1, true) or 0 -- its envelope, behind when it was accepted
    -- false, as a nil would end the answer before it.
    answers[#answers + 1] = { redis.call('LLEN', KEYS[i]), first and string.sub(first, 1, begins + longest) or false }
end
return answers
