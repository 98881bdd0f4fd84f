-- Gives leases back.
--
-- Keys:      1 the group's members of the topic; 2.. leases.
-- Arguments: 1 member; 2 '1' when it is to be a member no longer; 3.. the fence of each.
-- Effect:    leases that are still the member's are free; their fences stay, so that no old
--            one ever fits again.
-- Returns:   how many were given back.
-- Cost:      one round trip.
if ARGV[2] == '1' then
    redis.call('ZREM', KEYS[1], ARGV[1])
end
local given = 0
for i = 2, #KEYS do
    local lease = redis.call('HMGET', KEYS[i], 'owner', 'fence')
    if lease[1] == ARGV[1] and lease[2] == ARGV[i + 1] then
        redis.call('HSET', KEYS[i], 'owner', '', 'until', 0)
        given = given + 1
    end
end
return given
