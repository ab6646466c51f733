-- Reads which incarnations are registered, and how much each of them has.
-- include: common
--
-- Returns {now_us, until when the quarantine lasts (us) or nil, for each: {incarnation, name, types, room, when it was
--   heard of last (us; 0: it is leaving), silent_us, entities it owns, those of them with work}}
-- Keeps I5
local answers = { time_us(), redis.call('HGET', META, 'quarantine_until') }
local pods = redis.call('ZRANGE', PODS, 0, -1, 'WITHSCORES')
for i = 1, #pods, 2 do
    local incarnation, number = pods[i], number_of(pods[i])
    if number then -- else a stranger has put it there
        local known = redis.call('HMGET', FLEET, 'name:' .. incarnation, 'types:' .. incarnation, 'room:' .. incarnation,
            'silent_us:' .. incarnation)
        answers[#answers + 1] = {
            incarnation,
            known[1] or '',
            known[2] or '',
            known[3] or '0',
            pods[i + 1],
            known[4] or '0',
            redis.call('ZCOUNT', OWNED, number, number),
            redis.call('ZCOUNT', WAKE, number, number),
        }
    end
end
return answers
