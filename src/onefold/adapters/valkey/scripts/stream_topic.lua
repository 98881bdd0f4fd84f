-- Tells how many partitions a topic has, and decides it when nobody has.
--
-- Keys:      1 the number. Arguments: 1 what it shall be if it is not decided.
-- Returns:   the number. Cost: one round trip.
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return tonumber(redis.call('GET', KEYS[1]))
