-- Add rows to the audit, and take away the oldest ones that are too many.
--
-- KEYS: 1 audit (stream)   2 how many rows it has (string)
-- ARGV: 1 node   2 count of the rows   3 rows (JSON)   4 rows that are kept
-- Returns how many rows there are.

local count = tonumber(ARGV[2])
local kept = count
if redis.call('EXISTS', KEYS[1]) == 1 then
  kept = kept + tonumber(redis.call('GET', KEYS[2]) or '0')
end
redis.call('XADD', KEYS[1], '*', 'node', ARGV[1], 'count', ARGV[2], 'rows', ARGV[3])

-- An entry has one row or many. Twice as many entries as rows came: after a smaller setting the
-- stream shrinks with every call, and none of them takes long.
local most = tonumber(ARGV[4])
for _ = 1, 2 * count + 8 do
  if kept <= most then break end
  local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  if not oldest then break end
  local rows = 1
  local fields = oldest[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'count' then rows = tonumber(fields[i + 1]) or 1 end
  end
  if kept - rows < most then break end
  redis.call('XDEL', KEYS[1], oldest[1])
  kept = kept - rows
end
redis.call('SET', KEYS[2], string.format('%d', kept))
return kept
