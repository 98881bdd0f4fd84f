-- Appends messages to the partitions of one topic.
--
-- Keys:      streams.
-- Arguments: for each message the number of its stream, how many fields, the fields.
-- Effect:    each is appended in order; once a stream refuses one, no later one is appended
--            to that stream, so that none stands there without an earlier one of its key.
-- Returns:   for each message '' or why not.
-- Cost:      one round trip; atomic as a whole.
local outcomes, failed = {}, {}
local at = 1
while at <= #ARGV do
    local stream, count = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
    local outcome = failed[stream]
    if not outcome then
        local added = redis.pcall('XADD', KEYS[stream], '*', unpack(ARGV, at + 2, at + 1 + count))
        outcome = type(added) == 'table' and added.err or ''
        if outcome ~= '' then
            failed[stream] = outcome
        end
    end
    outcomes[#outcomes + 1] = outcome
    at = at + 2 + count
end
return outcomes
