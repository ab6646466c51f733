-- Ends placement with a pod: what it owns it keeps, until it lets go of it.
-- include: common
--
-- ARGV[2] incarnation
-- ARGV[3] generation
--
-- Returns GENERATION | WAIT | UNREGISTERED | OK
-- Keeps I6
local incarnation, generation = ARGV[2], ARGV[3]
local no = refused(generation, incarnation)
if no then
    return no
end
redis.call('HDEL', META, '_') -- a first write that a full server allows
redis.call('HSET', FLEET, 'room:' .. incarnation, 0)
return 'OK'
