-- Makes leased claims completed, for good.
--
-- Keys:      1.. records, all of one hash slot.
-- Arguments: 1 now; 2 the instant to forget at; 3 the record's time to live, ms; then two
--            for each record: fence, and '-' or '+' with the result.
-- Effect:    each record that is leased under its fence becomes completed; others stay.
-- Returns:   a digit for each record: 1 completed by this lease, now or before, 0 lost.
-- Cost:      one round trip; atomic as a whole. The record's form: see claim.lua.
local answers = {}
for i = 1, #KEYS do
    local record = redis.call('GET', KEYS[i])
    local fence = ARGV[2 * i + 2]
    answers[i] = '0'
    if record and string.sub(record, 2, 17) == fence then
        local state = string.sub(record, 1, 1)
        if state == 'L' then
            record = 'C' .. fence .. ARGV[1] .. string.sub(record, 36, 76)
                .. ARGV[2] .. ARGV[2 * i + 3]
            redis.call('SET', KEYS[i], record, 'PX', ARGV[3])
        end
        if state ~= 'R' then
            answers[i] = '1'
        end
    end
end
return table.concat(answers)
