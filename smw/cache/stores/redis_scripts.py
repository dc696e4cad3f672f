"""The scripts that Redis runs for the cache: what must happen in one instant, and nothing else."""

from __future__ import annotations

__all__ = ["DROP", "LEASE", "OPEN", "PULSE", "RELEASE", "RENEW", "REPLACE", "TIME", "WAITERS", "WRITE"]

# What somebody else has put where a number belongs is taken away: a list, a word, a number that is written otherwise
# than ours, or one to which Lua, which counts in doubles, can add nothing any more. What is missing begins again with a
# number that no value carries.
_NUMBER = """
local function counts(raw)
  return type(raw) == 'string' and #raw < 17 and string.match(raw, '^[1-9]%d*$') and tonumber(raw) < 9007199254740992
end
local function number(key)
  local raw = redis.pcall('GET', key)
  if counts(raw) then return raw end
  if raw then redis.call('DEL', key) end
  return false
end
"""
# Microseconds of the server; one more than what was there, should the clock have stepped back.
_STAMP = (
    _NUMBER
    + """
local function stamp(old)
  local t = redis.call('TIME')
  return string.format('%.0f', math.max((tonumber(old) or 0) + 1, t[1] * 1000000 + t[2]))
end
"""
)
# A number that was lost begins again with one that was never used. Whoever may not publish is no worse off than
# without messages: the number has moved on, so that nobody takes his memory for current.
_TELL = (
    _STAMP
    + """
local function tell(key, life, channel, words)
  local old = number(key)
  local now = old and string.format('%.0f', old + 1) or stamp(0)
  redis.call('SET', key, now, 'PX', life)
  redis.pcall('PUBLISH', channel, now .. ' ' .. words)
  return now
end
"""
)
# A write sees to it that counters outlive what carries them; here they need to outlive the load.
_OPENED = (
    _STAMP
    + """
local function opened(first, last)
  local out = {}
  for from = first, last, 1000 do
    for _, raw in ipairs(redis.call('MGET', unpack(KEYS, from, math.min(from + 999, last)))) do
      local key = KEYS[first + #out]
      local now = counts(raw) and raw or number(key)
      if not now then
        now = stamp(0)
        redis.call('SET', key, now, 'PX', ARGV[1])
      end
      out[#out + 1] = now
    end
  end
  return out
end
local function renewed(first, last)
  for i = first, last do
    if redis.call('PTTL', KEYS[i]) * 2 < tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[i], ARGV[1]) end
  end
end
"""
)
OPEN = (
    _OPENED
    + """
local out = opened(1, #KEYS)
renewed(1, #KEYS)
return out
"""
)
# KEYS: for each key its lease, its value, its counters. ARGV: life of counters, who asks, life of a lease, then for
# each key how many counters it has, whether no value was there, whether its holder is waited for, and what the asker
# loads meanwhile. A lease whose counters show something else belongs to a load that began before a drop: nobody waits
# for that one.
LEASE = (
    _OPENED
    + """
local out, me, at = {}, ARGV[2], 1
for each = 4, #ARGV, 4 do
  local lease, last = KEYS[at], at + 1 + tonumber(ARGV[each])
  local shown, left = opened(at + 2, last), 0
  local held, now = redis.pcall('HMGET', lease, 'by', 'at', 'w' .. me), table.concat(shown, ' ')
  if held.err then redis.call('DEL', lease) end
  if ARGV[each + 1] == '1' and redis.call('TYPE', KEYS[at + 1]).ok == 'string' then
    left = -1
  elseif held[1] and held[1] ~= me and held[2] == now then
    if ARGV[each + 2] == '1' then
      local loads = held[3] or ''
      if not string.find(loads, ARGV[each + 3], 1, true) then loads = loads .. ' ' .. ARGV[each + 3] end
      redis.call('HSET', lease, 'w' .. me, loads)
    end
    left = math.max(1, redis.call('PTTL', lease))
  else
    renewed(at + 2, last)
    redis.call('HSET', lease, 'by', me, 'at', now)
    redis.call('PEXPIRE', lease, ARGV[3])
  end
  for _, number in ipairs(shown) do out[#out + 1] = number end
  out[#out + 1] = left
  at = last + 1
end
return out
"""
)
# KEYS: leases. What those load who wait for them.
WAITERS = """
local out = {}
for _, lease in ipairs(KEYS) do
  local fields = redis.pcall('HGETALL', lease)
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 1) == 'w' and fields[i + 1] ~= '' then out[#out + 1] = fields[i + 1] end
  end
end
return out
"""
# A lease is that of one load: another one of the same process may have taken it anew after a drop.
_LAND = """
local function land(lease, me, at, mail, how, more)
  if redis.pcall('HGET', lease, 'by') ~= me or redis.call('HGET', lease, 'at') ~= at then return 0 end
  local told = how .. ' ' .. lease .. more
  for _, field in ipairs(redis.call('HKEYS', lease)) do
    if string.sub(field, 1, 1) == 'w' then redis.pcall('PUBLISH', mail .. string.sub(field, 2), told) end
  end
  return redis.call('DEL', lease)
end
"""
# KEYS: leases. ARGV: who holds them, where waiters get their mail, what they are told, then what the counters of each
# showed when it was taken.
RELEASE = (
    _LAND
    + """
for i, lease in ipairs(KEYS) do land(lease, ARGV[1], ARGV[i + 3], ARGV[2], ARGV[3], '') end
return 1
"""
)
# KEYS: leases. ARGV: who holds them, their life.
RENEW = """
for _, lease in ipairs(KEYS) do
  if redis.pcall('HGET', lease, 'by') == ARGV[1] then redis.call('PEXPIRE', lease, ARGV[2]) end
end
return 1
"""
# KEYS: value, counters, then the lease where there is one. ARGV: blob, life, life of counters, what each counter must
# show, then who holds the lease, where waiters get their mail, and how large a value may be that is enclosed: they have
# been shown the counters that it was loaded under, and that these still stand is known here.
WRITE = (
    _LAND
    + """
local leased = #ARGV - #KEYS > 2
local last = leased and #KEYS - 1 or #KEYS
local function done(more)
  if not leased then return end
  land(KEYS[#KEYS], ARGV[#ARGV - 2], table.concat(ARGV, ' ', 4, last + 2), ARGV[#ARGV - 1], 'f', more)
end
for i = 2, last do
  if redis.pcall('GET', KEYS[i]) ~= ARGV[i + 2] then
    done('')
    return 0
  end
end
for i = 2, last do
  if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[i], ARGV[3]) end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
done(leased and #ARGV[1] <= tonumber(ARGV[#ARGV]) and '\\n' .. ARGV[1] or '')
return 1
"""
)
# KEYS: counters, then dropped keys, then the number of messages where they are told. ARGV: number of counters, their
# life, channel, text. A missing counter needs no new number: values that carry an old one equal nothing, and a value
# loaded before would be stored only if it still showed that. Returns what each counter shows, or would if it began now.
DROP = (
    _TELL
    + """
local counters, last, shown = tonumber(ARGV[1]), #KEYS, {}
for i = 1, counters do
  local old = number(KEYS[i])
  shown[i] = stamp(old or 0)
  if old then
    redis.call('SET', KEYS[i], shown[i], 'PX', math.max(redis.call('PTTL', KEYS[i]), ARGV[2]))
  end
end
if ARGV[3] then last = last - 1 end
for i = counters + 1, last do redis.call('DEL', KEYS[i]) end
if ARGV[3] then tell(KEYS[#KEYS], ARGV[2], ARGV[3], ARGV[4]) end
return shown
"""
)
# KEYS: value, counters, that of the key first, then the number of messages where they are told. ARGV: blob, life, life
# of counters, number of counters, channel or nothing, text, then what each counter must show. A drop whatever happens,
# and a write where nothing has changed before it; a number with a minus tells that there was none.
REPLACE = (
    _TELL
    + """
local counters, stands = tonumber(ARGV[4]), true
for i = 1, counters do
  if redis.pcall('GET', KEYS[i + 1]) ~= ARGV[i + 6] then stands = false end
end
local old, now = number(KEYS[2]), '0'
if old then
  now = stamp(old)
  redis.call('SET', KEYS[2], now, 'PX', math.max(redis.call('PTTL', KEYS[2]), ARGV[3]))
end
if stands then
  for i = 2, counters do
    if redis.call('PTTL', KEYS[i + 1]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[i + 1], ARGV[3]) end
  end
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
else
  redis.call('DEL', KEYS[1])
end
if ARGV[5] ~= '' then tell(KEYS[#KEYS], ARGV[3], ARGV[5], ARGV[6]) end
return stands and now or '-' .. now
"""
)
# Asked as a script is, so that it comes to the server that carries the others out.
TIME = "return redis.call('TIME')"
# KEYS: number of messages, guard, the tag of everything. ARGV: life, channel, text. A server that was restarted, or
# that has taken the place of another, may have lost drops that were acknowledged: whoever sees it first drops
# everything, once for all processes. A promoted replica keeps its run_id, draws a replication id and remembers that of
# whom it followed; where it remembers none, a new replication id means only that its first replica came or its last one
# went.
PULSE = (
    _TELL
    + """
local function said(section, what)
  local info = redis.pcall('INFO', section)
  return type(info) == 'string' and string.match(info, what .. ':(%w+)') or ''
end
local reign, role, newest = said('server', 'run_id'), said('replication', 'role'), redis.pcall('GET', KEYS[1])
if role == 'slave' then return {counts(newest) and newest or '0', reign, 0} end
newest = number(KEYS[1])
if reign ~= '' then
  local guard = redis.pcall('GET', KEYS[2])
  if type(guard) == 'table' then guard = false end
  local was_promoted = not string.match(said('replication', 'master_replid2'), '^0*$')
  if was_promoted then
    reign = reign .. '.' .. said('replication', 'master_replid')
  elseif guard and string.sub(guard, 1, #reign) == reign then
    reign = guard
  end
  if guard ~= reign then
    redis.call('SET', KEYS[2], reign, 'PX', ARGV[1])
    local everything = number(KEYS[3])
    if guard and everything then
      redis.call('SET', KEYS[3], stamp(everything), 'PX', math.max(redis.call('PTTL', KEYS[3]), ARGV[1]))
      newest = tell(KEYS[1], ARGV[1], ARGV[2], ARGV[3])
    end
  end
end
if not newest then
  newest = stamp(0)
  redis.call('SET', KEYS[1], newest, 'PX', ARGV[1])
end
for i = 1, 2 do
  if redis.call('PTTL', KEYS[i]) * 2 < tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[i], ARGV[1]) end
end
return {newest, reign, 1}
"""
)
