-- The store's own clock, for join and beat: needs common.

-- If nobody ticked for over two heartbeats, or TIME jumped, all renewals and the quarantine move by the gap less one
-- heartbeat: no healthy pod is reaped for the server's pause, and slow heartbeats still reap.
local function tick(now)
    local meta = redis.call('HMGET', META, 'last_tick', 'heartbeat_us', 'quarantine_until')
    local heartbeat, quarantine = tonumber(meta[2]), tonumber(meta[3] or '')
    local gap = now - tonumber(meta[1] or now)
    if gap < 0 or gap > 2 * heartbeat then
        local shift = gap - heartbeat
        local pods = redis.call('ZRANGE', PODS, 0, -1, 'WITHSCORES')
        for i = 1, #pods, 2 do
            local renewed = tonumber(pods[i + 1])
            if renewed > 0 then
                redis.call('ZADD', PODS, text(math.max(1, math.min(now, renewed + shift))), pods[i])
            end
        end
        if quarantine then
            quarantine = quarantine + shift
            redis.call('HSET', META, 'quarantine_until', text(quarantine))
        end
    end
    redis.call('HSET', META, 'last_tick', text(now))
    return quarantine
end
