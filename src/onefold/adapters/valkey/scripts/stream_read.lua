-- Reads on in the partitions that a member holds.
--
-- Keys:      for each partition its lease and its stream.
-- Arguments: 1 group; 2 member; 3 the one consumer name we use; 4 the most entries, 5 and
--            bytes, of the answer; then for each partition the fence and the id behind
--            which to read.
-- Effect:    entries that were never delivered become pending.
-- Returns:   for each partition its entries in order, or 0 when its lease is another's. The
--            entries are one string, because a client reads one long string in a tenth of the
--            time of its parts: how many parts, the length of each (big-endian, 4 bytes), the
--            parts. The parts of an entry: its id, how many fields, names and values.
-- Cost:      one round trip; O(entries). Repeating it gives the same: what is pending behind
--            the id comes before what is new, so a lost answer loses nothing.
local left, room = tonumber(ARGV[4]), tonumber(ARGV[5])
local answers = {}
for i = 1, #KEYS, 2 do
    local at = 5 + i
    local lease = redis.call('HMGET', KEYS[i], 'owner', 'fence')
    local entries
    if lease[1] ~= ARGV[2] or lease[2] ~= ARGV[at] then
        entries = 0
    else
        local behind = ARGV[at + 1]
        local lengths, parts = {}, {}
        local function add(part)
            parts[#parts + 1] = part
            lengths[#lengths + 1] = struct.pack('>I4', #part)
            room = room - #part
        end
        while left > 0 and room > 0 do
            local count = math.min(left, 50)
            local read = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[3], 'COUNT', count,
                'STREAMS', KEYS[i + 1], behind)
            local found = read and read[1][2] or {}
            if #found == 0 then
                read = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[3], 'COUNT', count,
                    'STREAMS', KEYS[i + 1], '>')
                found = read and read[1][2] or {}
            end
            if #found == 0 then
                break
            end
            for _, entry in ipairs(found) do
                behind = entry[1]
                if entry[2] then
                    left = left - 1
                    add(entry[1])
                    add(tostring(#entry[2]))
                    for _, part in ipairs(entry[2]) do
                        add(part)
                    end
                else  -- pending, but deleted from the stream: nobody can have it any more
                    redis.call('XACK', KEYS[i + 1], ARGV[1], entry[1])
                end
            end
        end
        entries = struct.pack('>I4', #parts) .. table.concat(lengths) .. table.concat(parts)
    end
    answers[#answers + 1] = entries
end
return answers
