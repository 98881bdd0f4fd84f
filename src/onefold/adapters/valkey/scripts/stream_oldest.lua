-- Tells the oldest entry that a group has not settled.
--
-- Keys:      streams.
-- Arguments: 1 the group.
-- Effect:    none.
-- Returns:   for each stream the id of its oldest entry that is pending in the group or was
--            not given to it yet; empty without any.
-- Cost:      one round trip; O(groups).
local answers = {}
for n, stream in ipairs(KEYS) do
    local oldest = ''
    local last = '-'
    local groups = redis.pcall('XINFO', 'GROUPS', stream)
    if not groups.err then
        for _, group in ipairs(groups) do
            local info = {}
            for i = 1, #group, 2 do
                info[group[i]] = group[i + 1]
            end
            if info['name'] == ARGV[1] then
                last = '(' .. info['last-delivered-id']
                local pending = redis.call('XPENDING', stream, ARGV[1])
                if pending[1] > 0 then
                    oldest = pending[2]
                end
            end
        end
    end
    if oldest == '' then
        local fresh = redis.call('XRANGE', stream, last, '+', 'COUNT', 1)
        if #fresh > 0 then
            oldest = fresh[1][1]
        end
    end
    answers[n] = oldest
end
return answers
