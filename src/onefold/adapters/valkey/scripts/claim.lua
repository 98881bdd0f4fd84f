-- Takes the leases that are free; tells of the others.
--
-- Keys:      1 the consumer's fence counter; 2.. records, all of one hash slot.
-- Arguments: 1 owner; 2 now; 3 the lease's end; 4 the record's time to live, ms;
--            5 the least fence; 6.. a fingerprint for each record.
-- Effect:    each record that is absent, released or whose lease ended by *now* becomes
--            leased under the next fence; the counter goes up with each.
-- Returns:   each record as it stands afterwards.
-- Cost:      one round trip; atomic as a whole.
--
-- Record: state (1) fence (16) end of the lease or completion (18) attempt (9)
-- fingerprint (32), then the owner; completed ones: instant to forget at (18) and, after
-- a '+' or '-', the result. Instants are microseconds in digits, as wide as the widest, and
-- compared as text: a Lua number would round them. The server's clock is never asked.
local owner, now, ends, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local fence = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), tonumber(ARGV[5]))
local before = fence
local records = {}
for i = 2, #KEYS do
    local record = redis.call('GET', KEYS[i])
    local attempt = record and 0 or 1
    if record then
        local state = string.sub(record, 1, 1)
        if state == 'R' or (state == 'L' and string.sub(record, 18, 35) <= now) then
            attempt = tonumber(string.sub(record, 36, 44)) + 1
        end
    end
    if attempt > 0 then
        fence = fence + 1
        record = string.format('L%016.0f%s%09d', fence, ends, attempt) .. ARGV[i + 4] .. owner
        redis.call('SET', KEYS[i], record, 'PX', ttl)
    end
    records[i - 1] = record
end
if fence > before then
    redis.call('SET', KEYS[1], string.format('%.0f', fence))
end
return records
