-- Shared beginning of every script: names for the keys that all of them declare first, and the small steps that
-- several of them take.  It is put before a script's body when the scripts are loaded.
--
-- KEYS[1] meta    hash   generation (run id of the server), generation_from (number of the first incarnation that joined
--                        it), quarantine_until, held (types that an operator holds back, each between spaces), serving
--                        (the generation, exactly while there is neither of both), last_tick, epoch_floor, layout,
--                        watched (types, and until when), counters
-- KEYS[2] pods    zset   incarnation -> time of its last renewal (us); 0: leaving
-- KEYS[3] fleet   hash   types:, room:, silent_us:, suspect:<incarnation> -> what is known of it
-- KEYS[4] owned   zset   entity -> number of the incarnation that owns it
-- KEYS[5] wake    zset   entity -> the same number, exactly while it has work
-- KEYS[6] marked  zset   entity -> the same number, while commands of it are marked as cancelled
-- ARGV[1] channel        what a client's id is put behind to make its channel
local META, PODS, FLEET, OWNED, WAKE, MARKED = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local CHANNEL = ARGV[1]

local MAX_BACKOFF_US = 3600000000 -- no policy waits longer: a later due time means that the clock was set back
local MAX_BATCH_BYTES = 1048576
local MAX_COMMAND_BYTES = 1048576 -- of one envelope; no policy allows more, so that only a broken client sends it
local MAX_STATE_BYTES = 1048576 -- of one state, likewise

-- Numbers above 10^14 would lose digits by Lua's own conversion.
local function text(number)
    return string.format('%.0f', number)
end

local moment -- of this call: it happens at one

local function time_us()
    if not moment then
        local now = redis.call('TIME')
        moment = tonumber(now[1]) * 1000000 + tonumber(now[2])
    end
    return moment
end

local function number_of(incarnation)
    return string.match(incarnation, '%.(%d+)$')
end

local function client_of(incarnation)
    return string.match(incarnation, '^(.*)%.%d+$')
end

local function hint(incarnation, message)
    redis.call('PUBLISH', CHANNEL .. client_of(incarnation), message)
end

local held_types -- names of types that an operator holds back, each between spaces; nil: there is none

-- Says whether entities of a type, or of the type of an entity so called, are held back; after `refused`, or `read_held`.
local function type_held(name)
    local type = string.match(name, '^[^/]+')
    return held_types and string.find(held_types, ' ' .. type .. ' ', 1, true) ~= nil or false
end

local function read_held()
    held_types = redis.call('HGET', META, 'held')
end

-- Keeps what `refused` reads first; to be called where one of the others has changed.
local function note_serving()
    local meta = redis.call('HMGET', META, 'generation', 'quarantine_until', 'held')
    if meta[1] and not meta[2] and not meta[3] then
        redis.call('HSET', META, 'serving', meta[1])
    else
        redis.call('HDEL', META, 'serving')
    end
end

-- Says why an incarnation's request is not taken, or nil.
local function refused(generation, incarnation)
    if redis.call('HGET', META, 'serving') ~= generation then
        local meta = redis.call('HMGET', META, 'generation', 'quarantine_until', 'held')
        held_types = meta[3]
        if meta[1] ~= generation then
            return 'GENERATION'
        end
        if meta[2] then
            return 'WAIT'
        end
    end
    local renewed = redis.call('ZSCORE', PODS, incarnation)
    if not renewed or renewed == '0' then
        return 'UNREGISTERED'
    end
    return nil
end

-- Names the server that runs this; after a restart or failover it is another one.
local function run_id()
    return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
end
