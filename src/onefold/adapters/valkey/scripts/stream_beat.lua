-- Says that a member lives, prolongs its leases, and tells who lives and what is free.
--
-- Keys:      1 the group's members of the topic; 2.. the lease of each partition.
-- Arguments: 1 member; 2 the lease's length, ms; 3.. for each lease the fence under which
--            the member holds it, or '' when it does not.
-- Effect:    the member is known until the lease's length from now; dead ones are forgotten.
-- Returns:   the members; then for each lease 'kept', 'free' or 'taken'.
-- Cost:      one round trip; atomic as a whole.
--
-- Lease: a hash of owner, fence, until. Time is the server's: it alone ends leases, and its
-- clock is the only one that all members share.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = now + tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], ends, ARGV[1])
local states = {}
for i = 2, #KEYS do
    local lease = redis.call('HMGET', KEYS[i], 'owner', 'fence', 'until')
    if ARGV[i + 1] ~= '' and lease[1] == ARGV[1] and lease[2] == ARGV[i + 1] then
        -- Also one that has ended: nobody took it, so nobody has begun.
        redis.call('HSET', KEYS[i], 'until', ends)
        states[i - 1] = 'kept'
    elseif not lease[3] or tonumber(lease[3]) <= now then
        states[i - 1] = 'free'
    else
        states[i - 1] = 'taken'
    end
end
return {redis.call('ZRANGE', KEYS[1], 0, -1), states}
