-- Moves what is due, and what was leased for too long, into the leased set.
--
-- Keys:      1 due, 2 leased, 3 bodies; see due_arm.lua.
-- Arguments: 1 now; 2 the lease's end; 3 how many at the most; 4 the least fence.
-- Effect:    leases that ended are due again at their end; then the first of what is due
--            are leased, each under a fence above its last. One whose body is lost (evicted,
--            or deleted by hand) is forgotten: it could hold up all behind it, and the
--            reconciler arms it again.
-- Returns:   key, instant it was due, fence with payload; for each, the longest due first.
-- Cost:      one round trip; O(log n) for each; atomic as a whole.
local now, ends, most, floor = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local late = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'WITHSCORES', 'LIMIT', 0, most)
for i = 1, #late, 2 do
    redis.call('ZREM', KEYS[2], late[i])
    redis.call('ZADD', KEYS[1], late[i + 1], late[i])
end
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, most)
local taken = {}
for i = 1, #due, 2 do
    local key = due[i]
    local body = redis.call('HGET', KEYS[3], key)
    redis.call('ZREM', KEYS[1], key)
    if body then
        local fence = math.max(tonumber(string.sub(body, 1, 16)) + 1, floor)
        body = string.format('%016.0f', fence) .. string.sub(body, 17)
        redis.call('ZADD', KEYS[2], ends, key)
        redis.call('HSET', KEYS[3], key, body)
        taken[#taken + 1] = key
        taken[#taken + 1] = due[i + 1]
        taken[#taken + 1] = body
    end
end
return taken
