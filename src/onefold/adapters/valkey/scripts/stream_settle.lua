-- Acknowledges entries of partitions that a member holds.
--
-- Keys:      for each partition its lease and its stream.
-- Arguments: 1 group; 2 member; then for each partition the fence, how many ids, the ids.
-- Effect:    the entries are not pending any more; nothing where the lease is another's.
-- Returns:   for each partition 1, or 0 when its lease is another's.
-- Cost:      one round trip; acknowledging again changes nothing.
local at = 3
local held = {}
for i = 1, #KEYS, 2 do
    local count = tonumber(ARGV[at + 1])
    local lease = redis.call('HMGET', KEYS[i], 'owner', 'fence')
    if lease[1] == ARGV[2] and lease[2] == ARGV[at] then
        for first = 1, count, 1000 do  -- a call takes some thousands of arguments, not more
            local last = math.min(count, first + 999)
            redis.call('XACK', KEYS[i + 1], ARGV[1], unpack(ARGV, at + 1 + first, at + 1 + last))
        end
        held[#held + 1] = 1
    else
        held[#held + 1] = 0
    end
    at = at + 2 + count
end
return held
