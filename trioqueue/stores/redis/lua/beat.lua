-- Renews a pod's lease and reports what it should look at.
-- include: common tick watched page
--
-- Renews an existing registration only.  Ends the quarantine, and nobody else does: only here has a jump of the clock
-- been made up for.  Compares the server's own run id, as the heartbeat's client reconnects silently.
--
-- The oldest pod keeps the clock: it is told when the first command that is put off is due.  The others are told of
-- what is overdue alone, so that not all of them come for it at the same moment.
--
-- KEYS[7]  later (zset)
-- KEYS[8…] ready (zset) of each type that the pod takes
-- ARGV[2] incarnation
-- ARGV[3] generation
-- ARGV[4] offset   where the page of wakes begins
-- ARGV[5] count    entities in it
-- ARGV[6] chunk    ready entities to name
--
-- Returns GENERATION | UNREGISTERED | {owned, {wakes}, {entities with cancelled commands}, {ready}, room left,
--   {silent incarnation, its types, …}, us until a command is due (-1: none, or it is the other's matter),
--   {types of which somebody wants to be told, …}}
-- Keeps I6 I12 I16
local OVERDUE_US = 1000000
local incarnation, generation, offset, count, chunk = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if run_id() ~= generation or redis.call('HGET', META, 'generation') ~= generation then
    return 'GENERATION'
end
read_held()
local renewed = redis.call('ZSCORE', PODS, incarnation)
if not renewed or tonumber(renewed) <= 0 then
    return 'UNREGISTERED'
end
redis.call('HDEL', META, '_') -- a first write that a full server allows
local now = time_us()
local quarantine = tick(now)
if quarantine and quarantine <= now then
    redis.call('HDEL', META, 'quarantine_until')
    note_serving()
end
redis.call('ZADD', PODS, 'XX', text(now), incarnation)

local number = number_of(incarnation)
local owned = redis.call('ZCOUNT', OWNED, number, number)
local wakes = page(WAKE, number, offset, count)
local marked = page(MARKED, number, 0, count)
local room = tonumber(redis.call('HGET', FLEET, 'room:' .. incarnation) or 0) - owned
local ready = {}
for i = 8, #KEYS do
    local start = string.match(KEYS[i], 'ready:(.*)$') .. '/'
    for _, name in ipairs(type_held(start) and {} or redis.call('ZRANGE', KEYS[i], 0, chunk - 1)) do
        if string.sub(name, 1, #start) == start then
            ready[#ready + 1] = name
        else
            redis.call('ZREM', KEYS[i], name) -- a stranger put it there: it would be in the way for ever
        end
    end
end
local silent, oldest = {}, incarnation
local pods = redis.call('ZRANGE', PODS, 0, -1, 'WITHSCORES')
for i = 1, #pods, 2 do
    local last = tonumber(pods[i + 1])
    local limit = redis.call('HGET', FLEET, 'silent_us:' .. pods[i])
    if not limit then
        redis.call('ZREM', PODS, pods[i]) -- a stranger put it there: who joins has one
    elseif last <= 0 or now > last + tonumber(limit) then
        silent[#silent + 1] = pods[i]
        silent[#silent + 1] = redis.call('HGET', FLEET, 'types:' .. pods[i]) or ''
    elseif tonumber(number_of(pods[i])) < tonumber(number_of(oldest)) then
        oldest = pods[i]
    end
end
local first, wait = redis.call('ZRANGE', KEYS[7], 0, 0, 'WITHSCORES'), -1
if oldest == incarnation and redis.call('HGET', META, 'clock') ~= incarnation then
    redis.call('HSET', META, 'clock', incarnation)
end
if first[1] then
    local left = tonumber(first[2]) - now
    if oldest == incarnation or left < -OVERDUE_US then
        wait = math.max(0, left)
    end
end
return { owned, wakes, marked, ready, room, silent, wait, watched(now) }
