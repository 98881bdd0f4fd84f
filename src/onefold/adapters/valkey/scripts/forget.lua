-- Removes completed records whose time is over.
--
-- Keys:      1.. records, all of one hash slot.
-- Arguments: 1 now; 2 how many at the most.
-- Effect:    each record that is completed and to be forgotten by *now* is removed.
-- Returns:   how many were.
-- Cost:      one round trip; atomic as a whole. The record's form: see claim.lua.
local removed = 0
for i = 1, #KEYS do
    if removed == tonumber(ARGV[2]) then
        break
    end
    local record = redis.call('GET', KEYS[i])
    if record and string.sub(record, 1, 1) == 'C' and string.sub(record, 77, 94) <= ARGV[1] then
        removed = removed + redis.call('UNLINK', KEYS[i])
    end
end
return removed
