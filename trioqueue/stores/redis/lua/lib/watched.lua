-- Who wants to be told what happens, for watch and beat: needs common.

-- The types of which somebody wants to be told, in their order; * is all.
local function watched(now)
    local types = {}
    for type, ends in string.gmatch(redis.call('HGET', META, 'watched') or '', '(%S+) (%d+)') do
        if tonumber(ends) > now then
            types[#types + 1] = type
        end
    end
    return types
end
