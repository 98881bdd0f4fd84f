-- Ends claims: each is disarmed, or due again at another instant.
--
-- Keys:      1 due, 2 leased, 3 bodies; see due_arm.lua.
-- Arguments: key, fence (16 digits), instant or '' to disarm; for each claim.
-- Effect:    a claim whose fence is the deadline's ends; any other changes nothing. One that
--            is postponed gets a higher fence, so that the claim given up cannot end it.
-- Returns:   '1' or '0' for each.
-- Cost:      one round trip; atomic as a whole.
local held = {}
for i = 1, #ARGV, 3 do
    local key, fence, at = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    local body = redis.call('HGET', KEYS[3], key)
    local ours = body and string.sub(body, 1, 16) == fence
    if ours then
        redis.call('ZREM', KEYS[2], key)
        redis.call('ZREM', KEYS[1], key)
        if at == '' then
            redis.call('HDEL', KEYS[3], key)
        else
            redis.call('ZADD', KEYS[1], at, key)
            local after = string.format('%016.0f', tonumber(fence) + 1)
            redis.call('HSET', KEYS[3], key, after .. string.sub(body, 17))
        end
    end
    held[#held + 1] = ours and '1' or '0'
end
return table.concat(held)
