-- Removes entries that are old enough and that every group has settled.
--
-- Keys:      streams.
-- Arguments: 1 before which instant an entry was sent to be removed, ms since 1970.
--            2 the same for a stream that no group reads.
-- Effect:    entries are removed from the start up to the first that is too young, that a
--            group was not given yet, or that is pending in a group.
-- Returns:   how many were removed.
-- Cost:      one round trip; O(removed).
local function before(a, b)  -- whether id a is lower; ids are two numbers
    local a1, a2 = string.match(a, '(%d+)-(%d+)')
    local b1, b2 = string.match(b, '(%d+)-(%d+)')
    a1, a2, b1, b2 = tonumber(a1), tonumber(a2), tonumber(b1), tonumber(b2)
    return a1 < b1 or (a1 == b1 and a2 < b2)
end

local removed = 0
for _, stream in ipairs(KEYS) do
    local groups = redis.pcall('XINFO', 'GROUPS', stream)
    if not groups.err and #groups > 0 then
        local low = string.format('%.0f-0', tonumber(ARGV[1]))
        for _, group in ipairs(groups) do
            local info = {}
            for i = 1, #group, 2 do
                info[group[i]] = group[i + 1]
            end
            local pending = redis.call('XPENDING', stream, info['name'])
            -- The last one delivered is itself settled; keeping it costs one entry.
            local first = pending[1] > 0 and pending[2] or info['last-delivered-id']
            if before(first, low) then
                low = first
            end
        end
        removed = removed + redis.call('XTRIM', stream, 'MINID', '=', low)
    elseif not groups.err then
        removed = removed + redis.call('XTRIM', stream, 'MINID', '=', ARGV[2])
    end
end
return removed
