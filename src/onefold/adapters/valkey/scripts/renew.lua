-- Prolongs leases.
--
-- Keys:      1.. records, all of one hash slot.
-- Arguments: 1 the new end; 2 the record's time to live, ms; 3.. a fence for each record.
-- Effect:    each record that is leased under its fence ends later; others stay.
-- Returns:   a digit for each record: 1 prolonged, 0 lost.
-- Cost:      one round trip; atomic as a whole. The record's form: see claim.lua.
local answers = {}
for i = 1, #KEYS do
    local record = redis.call('GET', KEYS[i])
    if record and string.sub(record, 1, 17) == 'L' .. ARGV[i + 2] then
        record = string.sub(record, 1, 17) .. ARGV[1] .. string.sub(record, 36)
        redis.call('SET', KEYS[i], record, 'PX', ARGV[2])
        answers[i] = '1'
    else
        answers[i] = '0'
    end
end
return table.concat(answers)
