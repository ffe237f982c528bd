/** The few Lua scripts that must be atomic, and the way to run them. Each touches the keys of one account, or of one destination, only. */

import type { Redis } from 'ioredis';

/** A script known to Redis by its digest; sent whole only where Redis does not know it yet. */
export interface Script {
  readonly name: string;
  readonly keys: number;
  readonly lua: string;
}

/**
 * KEYS lease, fence; ARGV milliseconds, nonce. -> the new fencing token, or 0 while another holds the lease. The nonce keeps
 * a token unique where Redis forgot the last ones (a failover to a replica that lagged behind) and counts them anew.
 */
export const ACQUIRE: Script = {
  name: 'mailferryAcquire',
  keys: 2,
  lua: `
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local count = tonumber(string.match(redis.call('GET', KEYS[2]) or '0', '^%d+')) + 1
local token = string.format('%d-%s', count, ARGV[2])
redis.call('SET', KEYS[2], token)
redis.call('SET', KEYS[1], token, 'PX', ARGV[1])
return token`,
};

/** KEYS lease, fence; ARGV token, milliseconds. -> 1, or 0 if a newer token was given out. */
export const RENEW: Script = {
  name: 'mailferryRenew',
  keys: 2,
  lua: `
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`,
};

/** KEYS lease, fence; ARGV token. Frees the lease if it is still ours. */
export const RELEASE: Script = {
  name: 'mailferryRelease',
  keys: 2,
  lua: `
if redis.call('GET', KEYS[2]) ~= ARGV[1] or redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`,
};

/**
 * KEYS fence, open, settled, state, trail; ARGV token, serial, events kept, milliseconds that they are kept, and what is written, each
 * line with its end: groups that are open from now on (field, value), settled ones (field, value), those that are gone (field), the
 * account's state, events. (One argument a kind and one command a hash: clients and Redis spend more on a thousand small ones.)
 * All of it or, if the token is no longer the newest, nothing. A group lies in one hash at every moment. The serial counts
 * the writes of one token: what comes again (its answer was lost), or late (behind newer ones), changes nothing.
 */
export const WRITE: Script = {
  name: 'mailferryWrite',
  keys: 5,
  lua: `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('FENCED another worker has this account, or the ledger is gone') end
local token, last = string.match(redis.call('HGET', KEYS[4], 'written') or '', '^(%S+) (%d+)$')
if token == ARGV[1] and tonumber(last) >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[4], 'written', ARGV[1] .. ' ' .. ARGV[2])
local function put(here, there, text)
  local fields, both, count = {}, {}, 0
  for field, value in string.gmatch(text, '([^\\n]*)\\n([^\\n]*)\\n') do
    count = count + 1
    fields[count], both[2 * count - 1], both[2 * count] = field, field, value
  end
  if count == 0 then return end
  redis.call('HSET', here, unpack(both))
  redis.call('HDEL', there, unpack(fields))
end
put(KEYS[2], KEYS[3], ARGV[5])
put(KEYS[3], KEYS[2], ARGV[6])
local gone = {}
for field in string.gmatch(ARGV[7], '([^\\n]*)\\n') do gone[#gone + 1] = field end
if #gone > 0 then redis.call('HDEL', KEYS[2], unpack(gone)); redis.call('HDEL', KEYS[3], unpack(gone)) end
if ARGV[8] ~= '' then redis.call('HSET', KEYS[4], 'account', ARGV[8]) end
if ARGV[9] == '' then return 1 end
for event in string.gmatch(ARGV[9], '([^\\n]*)\\n') do redis.call('XADD', KEYS[5], 'MAXLEN', '~', ARGV[3], '*', 'e', event) end
redis.call('XTRIM', KEYS[5], 'MINID', '~', tonumber(redis.call('TIME')[1]) * 1000 - tonumber(ARGV[4]))
return 1`,
};

/**
 * KEYS breaker, probe; ARGV claim, milliseconds, now. -> the breaker (empty for none), and how long to wait: -1 if the probe
 * is ours, 0 if there is nothing to probe, else milliseconds for which it may be another's.
 */
export const CLAIM_PROBE: Script = {
  name: 'mailferryClaimProbe',
  keys: 2,
  lua: `
local raw = redis.call('GET', KEYS[1]) or ''
if raw == '' then return {raw, 0} end
local open = cjson.decode(raw).openUntil
if open == 0 or open > tonumber(ARGV[3]) then return {raw, 0} end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return {raw, -1} end
return {raw, redis.call('PTTL', KEYS[2])}`,
};

/** KEYS probe; ARGV claim, milliseconds. Makes a claim last that much longer, or, with 0, ends it, if it is still ours. */
export const RENEW_PROBE: Script = {
  name: 'mailferryRenewProbe',
  keys: 1,
  lua: `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`,
};

/**
 * KEYS breaker, probe; ARGV what it was, what it becomes (empty for none), milliseconds, claim or empty. -> nil, or what
 * it is if that is not what was thought. Ends the claim together with what it found out.
 */
export const SET_BREAKER: Script = {
  name: 'mailferrySetBreaker',
  keys: 2,
  lua: `
local raw = redis.call('GET', KEYS[1]) or ''
if raw ~= ARGV[1] then return raw end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
if ARGV[4] ~= '' and redis.call('GET', KEYS[2]) == ARGV[4] then redis.call('DEL', KEYS[2]) end
return nil`,
};

type Runner = (keysAndArguments: (string | number)[]) => Promise<unknown>;

/** Runs a script. @param keysAndArguments its keys, then its arguments */
export async function runScript(
  redis: Redis,
  script: Script,
  keysAndArguments: readonly (string | number)[],
): Promise<unknown> {
  const commands = redis as unknown as Record<string, Runner | undefined>;
  if (commands[script.name] === undefined)
    redis.defineCommand(script.name, { numberOfKeys: script.keys, lua: script.lua });
  const run = commands[script.name] as Runner;
  return await run.call(redis, [...keysAndArguments]);
}
