-- Gives entities that are ready to pods with room, the least loaded first, and names the next ones.
-- include: common place
--
-- KEYS[7…] for each entity: e, q, and load, ready of its type
-- ARGV[2] incarnation
-- ARGV[3] generation
-- ARGV[4] chunk       entities that the answer names
-- ARGV[5…] for each entity: name, type
--
-- Returns GENERATION | WAIT | UNREGISTERED | {entities to name in the next call, …}; none: no pod has room, or none waits
-- Keeps I5 I6 I12
local incarnation, generation, chunk = ARGV[2], ARGV[3], tonumber(ARGV[4])
local no = refused(generation, incarnation)
if no then
    return no
end
redis.call('HDEL', META, '_') -- a first write that a full server allows
local now, key, placed = time_us(), 7, {}
for at = 5, #ARGV, 2 do
    local x = { name = ARGV[at], type = ARGV[at + 1], e = KEYS[key], q = KEYS[key + 1], load = KEYS[key + 2], ready = KEYS[key + 3] }
    if redis.call('HGET', x.e, 'mode') == 'ready' then
        local to = not type_held(x.name) and choose(x.load, nil, nil) or nil
        if to then
            redis.call('ZREM', x.ready, x.name)
            redis.call('HINCRBY', META, 'ready:' .. x.type, -1)
            give(x, to, now)
            tell_marks(x, to)
            placed[x.ready] = true
        end
    else
        redis.call('ZREM', x.ready, x.name) -- a stranger put it there: it would be in the way for ever
    end
    key = key + 4
end
local rest = {}
for ready in pairs(placed) do
    for _, name in ipairs(redis.call('ZRANGE', ready, 0, chunk - #rest - 1)) do
        rest[#rest + 1] = name
    end
    if #rest >= chunk then
        break
    end
end
return rest
