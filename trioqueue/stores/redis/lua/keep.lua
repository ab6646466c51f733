-- Has entities kept awake for a while, though they may have no work: gives the idle ones to pods, and tells all owners.
-- include: common place
--
-- What is kept awake is not stored: who owns an entity is told again and again, and forgets it when that ends.  So there
-- is nothing to heal after a pod has died, and nothing to take back.
--
-- KEYS[7…] for each entity: e, q, and load, ready of its type
-- ARGV[2] incarnation
-- ARGV[3] generation
-- ARGV[4] keep_ms
-- ARGV[5…] for each entity: name, type
--
-- Returns GENERATION | WAIT | UNREGISTERED | how many are idle still, as there is no room for them
-- Keeps I5 I6
local incarnation, generation, keep_ms = ARGV[2], ARGV[3], ARGV[4]
local no = refused(generation, incarnation)
if no then
    return no
end
for key = 7, #KEYS, 4 do
    redis.call('HLEN', KEYS[key]) -- raises for a key of another type, before anything is written; so do the next lines
    redis.call('ZCARD', KEYS[key + 2])
    redis.call('ZCARD', KEYS[key + 3])
end
redis.call('HDEL', META, '_') -- a first write that a full server allows
local key, homeless, told = 7, 0, {}
for at = 5, #ARGV, 2 do
    local x = { name = ARGV[at], type = ARGV[at + 1], e = KEYS[key], q = KEYS[key + 1], load = KEYS[key + 2], ready = KEYS[key + 3] }
    local h = redis.call('HMGET', x.e, 'mode', 'owner', 'paused')
    if not h[3] and not type_held(x.name) then
        local owner = h[2]
        if not h[1] then
            -- What waits for room has work, and comes first.
            owner = redis.call('ZCARD', x.ready) == 0 and choose(x.load, nil, nil)
            if owner then
                park(x, owner)
            else
                homeless = homeless + 1
            end
        end
        if owner then
            told[owner] = (told[owner] or keep_ms) .. '\n' .. x.name
        end
    end
    key = key + 4
end
for owner, message in pairs(told) do
    hint(owner, 'k' .. message)
end
return homeless
