-- Arms deadlines; one that is armed or leased already is moved, and its lease ends.
--
-- Keys:      1 due, 2 leased (sorted sets of keys by instant, microseconds since 1970),
--            3 bodies (hash), all of one kind and so of one hash slot.
-- Arguments: key, instant, payload; for each deadline.
-- Effect:    each is due at its instant under a fence above the one before.
-- Returns:   how many.
-- Cost:      one round trip; atomic as a whole. Nothing here ever expires by itself.
for i = 1, #ARGV, 3 do
    local key, at, payload = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    local body = redis.call('HGET', KEYS[3], key)
    local fence = body and tonumber(string.sub(body, 1, 16)) + 1 or 0
    redis.call('ZREM', KEYS[2], key)
    redis.call('ZADD', KEYS[1], at, key)
    redis.call('HSET', KEYS[3], key, string.format('%016.0f', fence) .. payload)
end
return #ARGV / 3
