-- Registers a new incarnation of a pod, and notices a server that is not the one of before.
-- include: common tick
--
-- Safe to repeat, and never late: `ticket` is the incarnation counter as the caller last saw it, so a copy that runs
-- after its caller has left is refused.  An answer that was lost is found again by `name`d client and ticket.
--
-- KEYS[7…] load (zset) of each type that the pod takes
-- ARGV[2] client
-- ARGV[3] ticket
-- ARGV[4] known         generation the caller registered with before, or ""
-- ARGV[5] layout        version of the key layout
-- ARGV[6] partitions    how many
-- ARGV[7] heartbeat_us
-- ARGV[8] ttl_us
-- ARGV[9] grace_us
-- ARGV[10] room         entities it will own
-- ARGV[11] name         for people
-- ARGV[12…] type        one for each key above
--
-- Returns {OK, incarnation, generation} | {TICKET, counter} | {LAYOUT, stored} | {PARTITIONS, stored}
--   | {HEARTBEAT, stored} | {TTL, stored}
-- Keeps I6 I16
local client, ticket, known = ARGV[2], ARGV[3], ARGV[4]
local layout, partitions, heartbeat_us, ttl_us, grace_us = ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local m = redis.call('HMGET', META, 'layout', 'partitions', 'heartbeat_us', 'max_ttl_us', 'grace_us', 'generation',
    'incarnations', 'joined:' .. client, 'generation_from')
local fresh = not m[1]
if not fresh then
    if m[1] ~= layout then return { 'LAYOUT', m[1] } end
    if m[2] ~= partitions then return { 'PARTITIONS', m[2] } end
    if m[3] ~= heartbeat_us then return { 'HEARTBEAT', m[3] } end
    if tonumber(ttl_us) > tonumber(m[4]) then return { 'TTL', m[4] } end
end
local generation, counter = run_id(), m[7] or '0'
if ticket ~= counter then
    local was_ticket, incarnation = string.match(m[8] or '', '^(%d+) (.*)$')
    if was_ticket == ticket and m[6] == generation and redis.call('ZSCORE', PODS, incarnation)
        and tonumber(number_of(incarnation)) >= tonumber(m[9]) then -- else it registered with an earlier server
        return { 'OK', incarnation, generation }
    end
    return { 'TICKET', counter }
end
redis.call('HDEL', META, '_') -- a first write that a full server allows
local now = time_us()
local number = text(math.max(tonumber(counter) + 1, now))
if fresh then
    redis.call('HSET', META, 'layout', layout, 'partitions', partitions, 'heartbeat_us', heartbeat_us,
        'max_ttl_us', ttl_us, 'grace_us', grace_us, 'last_tick', text(now))
end
tick(now)
if m[6] ~= generation then
    redis.call('HSET', META, 'generation', generation, 'generation_from', number)
    if not fresh or known ~= '' then
        redis.call('HSET', META, 'quarantine_until',
            text(now + tonumber(m[4] or ttl_us) + tonumber(m[5] or grace_us)))
    end
    note_serving()
end
local incarnation = client .. '.' .. number
redis.call('HSET', META, 'incarnations', number, 'joined:' .. client, ticket .. ' ' .. incarnation)
redis.call('ZADD', PODS, text(now), incarnation)
redis.call('HSET', FLEET, 'name:' .. incarnation, ARGV[11], 'room:' .. incarnation, ARGV[10],
    'silent_us:' .. incarnation, text(tonumber(ttl_us) + tonumber(grace_us)),
    'types:' .. incarnation, table.concat(ARGV, ' ', 12))
for i = 7, #KEYS do
    redis.call('ZADD', KEYS[i], 0, incarnation)
end
return { 'OK', incarnation, generation }
