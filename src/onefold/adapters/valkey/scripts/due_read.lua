-- Reads what is due and the first instant; changes nothing.
--
-- Keys:      1 due, 2 leased, 3 bodies; see due_arm.lua.
-- Arguments: 1 now; 2 how many at the most; 0 for the first instant alone.
-- Returns:   the first instant, or '', then key, instant, fence with payload for each that
--            is due; leases that ended are due at their end.
-- Cost:      one round trip.
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
local lease = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
if lease and (not first or tonumber(lease) < tonumber(first)) then first = lease end
local found = {first or ''}
if ARGV[2] == '0' then return found end
for set = 1, 2 do
    local some = redis.call('ZRANGEBYSCORE', KEYS[set], '-inf', ARGV[1], 'WITHSCORES', 'LIMIT', 0, ARGV[2])
    for i = 1, #some, 2 do
        local body = redis.call('HGET', KEYS[3], some[i])
        if body then
            found[#found + 1] = some[i]
            found[#found + 1] = some[i + 1]
            found[#found + 1] = body
        end
    end
end
return found
