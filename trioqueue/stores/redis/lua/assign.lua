-- Gives entities that are ready to pods with room, the least loaded first.
-- include: common place
--
-- KEYS[7…] for each entity: e, q, and load, ready of its type
-- ARGV[2] incarnation
-- ARGV[3] generation
-- ARGV[4…] for each entity: name, type
--
-- Returns GENERATION | WAIT | UNREGISTERED | OK
-- Keeps I5 I6 I12
local incarnation, generation = ARGV[2], ARGV[3]
local no = refused(generation, incarnation)
if no then
    return no
end
redis.call('HDEL', META, '_') -- a first write that a full server allows
local now, key = time_us(), 7
for at = 4, #ARGV, 2 do
    local x = { name = ARGV[at], type = ARGV[at + 1], e = KEYS[key], q = KEYS[key + 1], load = KEYS[key + 2], ready = KEYS[key + 3] }
    if redis.call('HGET', x.e, 'mode') == 'ready' then
        local to = choose(x.load, nil, nil)
        if to then
            redis.call('ZREM', x.ready, x.name)
            redis.call('HINCRBY', META, 'ready:' .. x.type, -1)
            give(x, to, now)
        end
    end
    key = key + 4
end
return 'OK'
