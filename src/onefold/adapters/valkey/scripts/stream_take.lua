-- Takes the leases that are free, and makes their pending entries the new owner's to read.
--
-- Keys:      for each partition its lease and its stream.
-- Arguments: 1 group; 2 member; 3 the lease's length, ms; 4 the one consumer name we use.
-- Effect:    each lease that is free is the member's under the next fence. The group is made
--            at the stream's start. Entries that any other consumer name left pending (a
--            foreign reader of the same group) become ours; those whose entry was deleted
--            leave the pending list, which XAUTOCLAIM does by itself.
-- Returns:   for each partition the fence, or 0 when another was faster.
-- Cost:      one round trip; O(pending entries).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local fences = {}
for i = 1, #KEYS, 2 do
    local lease, stream = KEYS[i], KEYS[i + 1]
    local ends = redis.call('HGET', lease, 'until')
    if ends and tonumber(ends) > now then
        fences[#fences + 1] = 0
    else
        fences[#fences + 1] = redis.call('HINCRBY', lease, 'fence', 1)
        redis.call('HSET', lease, 'owner', ARGV[2], 'until', now + tonumber(ARGV[3]))
        local made = redis.pcall('XGROUP', 'CREATE', stream, ARGV[1], '0', 'MKSTREAM')
        if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then
            return made
        end
        local cursor = '0-0'
        repeat
            local claimed = redis.call(
                'XAUTOCLAIM', stream, ARGV[1], ARGV[4], 0, cursor, 'COUNT', 1000, 'JUSTID')
            cursor = claimed[1]
        until cursor == '0-0'
    end
end
return fences
