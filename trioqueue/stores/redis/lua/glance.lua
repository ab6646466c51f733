-- Reads how many commands wait in mailboxes, and the first of each.
-- include: common
--
-- KEYS[7…] q  of each entity
--
-- Returns {now_us, for each: {commands, the first one or nil}}
-- Keeps I5
local answers = { time_us() }
for i = 7, #KEYS do
    answers[#answers + 1] = { redis.call('LLEN', KEYS[i]), redis.call('LRANGE', KEYS[i], 0, 0)[1] or false }
end
return answers
