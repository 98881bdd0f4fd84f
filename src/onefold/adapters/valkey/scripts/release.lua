-- Gives leases back, so that others may claim at once.
--
-- Keys:      1.. records, all of one hash slot.
-- Arguments: 1 the record's time to live, ms; 2.. a fence for each record.
-- Effect:    each record that is leased under its fence becomes released and keeps its
--            fence and attempts; others stay.
-- Returns:   a digit for each record: 1 released under this fence, now or before, 0 lost.
-- Cost:      one round trip; atomic as a whole. The record's form: see claim.lua.
local answers = {}
for i = 1, #KEYS do
    local record = redis.call('GET', KEYS[i])
    answers[i] = '0'
    if record and string.sub(record, 2, 17) == ARGV[i + 1] then
        local state = string.sub(record, 1, 1)
        if state == 'L' then
            redis.call('SET', KEYS[i], 'R' .. string.sub(record, 2), 'PX', ARGV[1])
        end
        if state ~= 'C' then
            answers[i] = '1'
        end
    end
end
return table.concat(answers)
