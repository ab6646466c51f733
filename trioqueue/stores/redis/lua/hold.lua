-- Holds all entities of a type back for an operator, or lets them go on.
-- include: common
--
-- What an older release holds back has no reason, and what it lets go on may leave one behind, which says nothing.
--
-- ARGV[2] type
-- ARGV[3] why     "": it goes on
--
-- Returns 1 | 0 (it was so already)
-- Keeps I5 I13
local type, why, hold = ARGV[2], ARGV[3], ARGV[3] ~= ''
read_held()
if type_held(type) == hold then
    return 0
end
redis.call('HDEL', META, '_') -- a first write that a full server allows
local rest = ' '
for one in string.gmatch(held_types or '', '%S+') do
    if one ~= type then
        rest = rest .. one .. ' '
    end
end
if hold then
    redis.call('HSET', META, 'held', rest .. type .. ' ', 'held:' .. type, text(time_us()) .. ' ' .. why)
elseif rest == ' ' then
    redis.call('HDEL', META, 'held')
else
    redis.call('HSET', META, 'held', rest)
end
if not hold then
    redis.call('HDEL', META, 'held:' .. type)
end
note_serving()
return 1
