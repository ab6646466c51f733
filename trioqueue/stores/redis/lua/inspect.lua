-- Reads all that there is about one entity.
-- include: common
--
-- KEYS[7] e, KEYS[8] q, KEYS[9] s, KEYS[10] ready  of the entity and its type
-- ARGV[2] name
--
-- Returns {now_us, fields of e, commands, the first command or nil, bytes of the state, its owner's name or nil, when that
--   was heard of last (us) or nil, since when it is ready (us) or nil, nil or, where its type is held back, "since_us why"
--   (or "", by an older release), until when the quarantine lasts (us) or nil, how long its owner may be silent
--   (us) or nil}
-- Keeps I5
read_held()
local fields = redis.call('HGETALL', KEYS[7])
local state = redis.call('GET', KEYS[9]) or ''
local owner = redis.call('HGET', KEYS[7], 'owner')
local type = string.match(ARGV[2], '^[^/]+')
return {
    time_us(),
    fields,
    redis.call('LLEN', KEYS[8]),
    redis.call('LRANGE', KEYS[8], 0, 0)[1] or false,
    #state - #(string.match(state, '^%d+%.%d+ ') or ''),
    owner and redis.call('HGET', FLEET, 'name:' .. owner) or false,
    owner and redis.call('ZSCORE', PODS, owner) or false,
    redis.call('ZSCORE', KEYS[10], ARGV[2]) or false,
    type_held(ARGV[2]) and (redis.call('HGET', META, 'held:' .. type) or '') or false,
    redis.call('HGET', META, 'quarantine_until'),
    owner and redis.call('HGET', FLEET, 'silent_us:' .. owner) or false,
}
