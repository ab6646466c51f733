-- Holds all entities of a type back for an operator, or lets them go on.
-- include: common
--
-- ARGV[2] type
-- ARGV[3] 1: hold, 0: let go on
--
-- Returns 1 | 0 (it was so already)
-- Keeps I5 I13
local type, hold = ARGV[2], ARGV[3] == '1'
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
    redis.call('HSET', META, 'held', rest .. type .. ' ')
elseif rest == ' ' then
    redis.call('HDEL', META, 'held')
else
    redis.call('HSET', META, 'held', rest)
end
return 1
