-- Begins with entities that were assigned to a pod: each gets a new epoch and answers its state and first commands.
-- include: common fetch marked begin flat
--
-- Takes nothing out of a mailbox, and leaves the entity in wake: a claim that runs late must not hide work.
-- Sections run in turn and are answered each for itself.
--
-- KEYS[7…] for each section: e (hash), q (list), s (string)
-- ARGV[2] incarnation
-- ARGV[3] generation
-- ARGV[…] for each section: name, have (version of the state it holds), fetch (commands wanted), eager (1:
--         its worker is told of what comes while it is awake)
--
-- Returns one word for the call, GENERATION | WAIT | UNREGISTERED, or for each section, all in one list (flat)
--   {CLAIMED, epoch, done, now_us, state's version or "", state | 1 (not modified) | nil, attempts, crashes,
--    proven (1: a pod died with it alone in hand), unknown_us, ids of cancelled commands, commands ("accepted_us envelope")}
--   {EMPTY, epoch} | {BACKOFF, us} | LATER | NOT_YOURS | PAUSED
-- Keeps I5 I6 I7 I11 I13 I16
local incarnation, generation = ARGV[2], ARGV[3]
local no = refused(generation, incarnation)
if no then
    return no
end
redis.call('HDEL', META, '_') -- a first write that a full server allows
local now, answers = time_us(), {}
for i = 0, (#KEYS - 6) / 3 - 1 do
    local x = { name = ARGV[4 + 4 * i], e = KEYS[7 + 3 * i], q = KEYS[8 + 3 * i], s = KEYS[9 + 3 * i], eager = ARGV[7 + 4 * i] }
    answers[i + 1] = begin(x, incarnation, ARGV[5 + 4 * i], tonumber(ARGV[6 + 4 * i]), now)
    keep_floor()
end
return flat(answers)
