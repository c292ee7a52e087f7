// A limit on what each source address may send: so many packets a second, and silence for a while for who sends more.
import { type BpfMap, bytes, counter, struct } from '../bpf/index.js'
import { type LoadedXdp, type Local, type Value, type Xdp, defineMap } from '../bpf/builder/index.js'
import { OptionError } from '../kernel/index.js'
import { parseIp } from '../packet/address.js'
import { mappedAddress } from './mapped-address.js'

/** What a source may do. */
export interface RateLimitOptions {
  /** Packets a second, on average: 1 to 10000000. */
  perSecond: number
  /** Packets at once, after silence. Default what is allowed in a second. */
  burst?: number
  /** Seconds for which everything from a source that exceeded it is dropped. Default 0: only what is too much. */
  banSeconds?: number
  /** Sources remembered: the one not heard of for the longest is forgotten first. Default 65536. */
  maxSources?: number
}

const SECOND = 1_000_000_000
const MAX_PER_SECOND = 10_000_000
const MAX_BAN_SECONDS = 86_400
const sourceKey = bytes(16)

/**
 * What is known of a source, in nanoseconds since the machine started: until when its packets are paid for (the bucket as a time:
 * every packet costs 1 s / perSecond, and nobody may be further ahead than the burst), and until when it is banned.
 */
const sourceState = struct({ paidUntil: counter, bannedUntil: counter })

const sourceMap = (maxSources: number) =>
  defineMap({ type: 'lru_hash', name: 'sources', key: sourceKey, value: sourceState, maxEntries: maxSources })
const limitedMap = defineMap({ type: 'percpu_array', name: 'limited', value: counter, maxEntries: 1 })

/**
 * Makes a guard for the programs that take one, such as `defineRedirectPorts`:
 *
 * ```
 * packet, from ─┬─ a source that is banned ─────────────────────→ drop, counted
 *               ├─ one whose burst is used up (and ban it) ─────→ drop, counted
 *               └─ any other: its packet is paid for ───────────→ on it goes
 * ```
 *
 * Two processors that meet the same source at once may let a packet through too many. An IPv6 source is one address: who has a
 * network of them has as many limits. Sources of UDP can be forged: a ban can be brought on somebody else. Kernel 4.10, for
 * the map. Throws `OptionError`.
 */
export function defineRateLimit(
  options: RateLimitOptions,
): (x: Xdp, source: Local<typeof sourceKey>) => void {
  const { perSecond, burst, banSeconds, maxSources } = checked(options)
  const cost = BigInt(Math.round(SECOND / perSecond))
  const ahead = cost * BigInt(burst)
  const ban = BigInt(Math.round(banSeconds * SECOND))
  const sources = sourceMap(maxSources)
  return (x, source) => {
    const now = x.time()
    const refuse = (): void => {
      x.ifPresent(x.lookup(limitedMap, 0), (count) => count.increment())
    }
    const isKnown = x.let(x.u32(0))
    x.ifPresent(x.lookup(sources, source), (known) => {
      isKnown.set(1)
      if (ban > 0n) {
        x.if(known.bannedUntil.gt(now), () => {
          refuse()
          return 'drop'
        })
      }
      // Nobody saves up: whoever was silent begins anew.
      const paid: Value<'u64'> = x.select(known.paidUntil.gt(now), known.paidUntil, now)
      const next = paid.add(cost)
      x.if(next.gt(now.add(ahead)), () => {
        if (ban > 0n) known.bannedUntil.set(now.add(ban))
        refuse()
        return 'drop'
      })
      known.paidUntil.set(next)
    })
    x.if(
      isKnown.value.eq(0),
      () => void x.update(sources, source, { paidUntil: now.add(cost), bannedUntil: 0 }),
    )
  }
}

/** The limit in a loaded program: what it did, and whom it bans. */
export class RateLimit {
  readonly #sources: BpfMap<Uint8Array, { paidUntil: number; bannedUntil: number }>
  readonly #limited: BpfMap<number, number[]>

  /** Of a program that `defineRateLimit` is the guard of. Its maps are the program's to close. */
  constructor(loaded: LoadedXdp) {
    this.#sources = loaded.map(sourceMap(0))
    this.#limited = loaded.map(limitedMap)
  }

  /** Packets dropped so far. */
  get limited(): number {
    return (this.#limited.lookup(0) ?? []).reduce((sum, count) => sum + count, 0)
  }

  /**
   * Forgets what a source has done, its ban included: an address as text, or 4 or 16 bytes. False when nothing was known of
   * it. Throws `OptionError` for what is no address.
   */
  forgive(source: string | Uint8Array): boolean {
    const address = typeof source === 'string' ? parseIp(source) : source
    if (address?.length !== 4 && address?.length !== 16)
      throw new OptionError('source', `"${String(source)}" is no IP address`, 'Use text, or 4 or 16 bytes.')
    return this.#sources.delete(mappedAddress(address))
  }
}

function checked(options: RateLimitOptions): Required<RateLimitOptions> {
  const {
    perSecond,
    burst = Math.max(1, Math.floor(perSecond)),
    banSeconds = 0,
    maxSources = 65_536,
  } = options
  const check = (name: string, value: number, from: number, to: number, whole: boolean): void => {
    if (value >= from && value <= to && (!whole || Number.isInteger(value))) return
    throw new OptionError(
      `rateLimit.${name}`,
      `A limit's ${name} cannot be ${value}`,
      `Use ${from} to ${to}.`,
    )
  }
  check('perSecond', perSecond, 1, MAX_PER_SECOND, false)
  check('burst', burst, 1, MAX_PER_SECOND, true)
  check('banSeconds', banSeconds, 0, MAX_BAN_SECONDS, false)
  check('maxSources', maxSources, 1, 2 ** 24, true)
  return { perSecond, burst, banSeconds, maxSources }
}
