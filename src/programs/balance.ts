// Spreads flows over several sockets of a queue, devices or processors: a flow always goes to the same one.
import { type BpfMap, type BpfProgram, u32 } from '../bpf/index.js'
import { checkCpus, parseCpuList } from '../bpf/cpus.js'
import {
  type LoadedXdp,
  type Local,
  type Value,
  type Xdp,
  type XdpDefinition,
  defineMap,
  defineXdp,
} from '../bpf/builder/index.js'
import { OptionError, getInterface } from '../kernel/index.js'
import { passDiscovery } from './discovery.js'
import { flowKey, writeFlow } from './flow-key.js'
import { understood } from './settings.js'
import { type ShippedProgram, oneNumber, oneWord } from './shipped.js'
import { socketMap } from './sockets.js'

/** The most targets there can be of a kind; sockets for each queue. */
export const MAX_TARGETS = 1024

/** Over what flows are spread. */
export type BalanceTargets =
  /**
   * Several sockets on each queue, which share a UMEM. `queues` is the most queues the device can ever have; socket number s of
   * queue q belongs at s * queues + q of the map, so that the first of each stand where those of `redirect` do.
   */
  | { readonly to: 'sockets'; readonly count: number; readonly queues: number }
  /** The devices at 0 to `count` - 1 of the map. */
  | { readonly to: 'devices'; readonly count: number }
  /** These processors, which take the packets on into the kernel. */
  | { readonly to: 'cpus'; readonly cpus: readonly number[] }

/** What makes two packets go to the same target. */
export interface BalanceOptions {
  /**
   * `ports` (the default): the same addresses, and the same ports of TCP and UDP. Fragments have none, so those of a flow go to
   * one target, but maybe another than its whole packets. `addresses`: the same addresses, whatever the packet carries.
   */
  by?: 'ports' | 'addresses'
  /** Both directions of a flow go to the same target. Default false. */
  symmetric?: boolean
}

const cpuMap = (entries: number) => defineMap({ type: 'cpumap', name: 'cpus', maxEntries: entries })
const chosenCpuMap = (entries: number) =>
  defineMap({ type: 'array', name: 'chosen_cpus', value: u32, maxEntries: entries })
const deviceMap = (entries: number) => defineMap({ type: 'devmap', name: 'devices', maxEntries: entries })

/** How many packets may wait for a processor before more are dropped. */
const CPU_QUEUE = 2048

/**
 * ```
 * packet, up to two VLAN tags ─┬─ ARP, neighbour discovery, other types ─────────→ pass: else nobody finds us
 *                              ├─ IPv4 or IPv6: hash of its flow mod count ─┬────→ the target with this number
 *                              │                                            └────→ pass where there is none
 *                              └─ too short or malformed for that ───────────────→ pass
 * ```
 *
 * The hash is of the addresses and ports, without protocol and VLAN; it is no secret, so that who knows it can load one target.
 * Takes packets in several buffers (jumbo frames) too where the kernel has them (5.18): a socket or device that cannot drops
 * those. Kernel 5.3. Throws `OptionError` for numbers of targets that cannot be.
 */
export function defineBalance(targets: BalanceTargets, options: BalanceOptions = {}): XdpDefinition {
  const count = targets.to === 'cpus' ? targets.cpus.length : targets.count
  if (!(Number.isInteger(count) && count >= 1 && count <= MAX_TARGETS)) {
    throw new OptionError(
      targets.to,
      `Flows cannot be spread over ${count} ${targets.to}`,
      `Use 1 to ${MAX_TARGETS}.`,
    )
  }
  return defineXdp('xdp_balance', { frags: true }, (x) => {
    const number = flowNumber(x, count, options)
    switch (targets.to) {
      case 'sockets':
        return x.redirectTo(socketMap(count * targets.queues), number.mul(targets.queues).add(x.queue))
      case 'devices':
        return x.redirectTo(deviceMap(count), number)
      case 'cpus': {
        const cpu = x.lookup(chosenCpuMap(count), number).orReturn()
        return x.redirectTo(cpuMap(Math.max(...targets.cpus) + 1), cpu)
      }
    }
  })
}

/**
 * The number of the packet's flow, from 0 to `count` - 1. Where there is no flow the program ends: with `pass` for what finds
 * neighbours, with its `otherwise` for the rest.
 */
export function flowNumber(x: Xdp, count: number, options: BalanceOptions = {}): Value<'u32'> {
  const eth = x.packet.ethernet({ vlans: 2 })
  passDiscovery(x, eth)
  const key = x.uninitialized(flowKey)
  writeFlow(x, eth, key, () => x.fail())
  return scaled(hashFlow(key, options), count)
}

/** 2^64 divided by the golden ratio, odd: multiplying by it carries every bit into the upper half. */
const GOLDEN = 0x9e37_79b9_7f4a_7c15n

function hashFlow(
  key: Local<typeof flowKey>,
  { by = 'ports', symmetric = false }: BalanceOptions,
): Value<'u64'> {
  const { fields } = key
  const mix = (value: Value<'u64'>): Value<'u64'> => {
    const product = value.mul(GOLDEN)
    return product.xor(product.shr(32))
  }
  const endOf = (end: 'src' | 'dst'): Value<'u64'> => {
    const address = fields[end]
    const mixed = mix(mix(address.field(0, 'u64')).xor(address.field(8, 'u64')))
    return by === 'ports' ? mix(mixed.xor(fields[`${end}Port`].host().u64())) : mixed
  }
  const [src, dst] = [endOf('src'), endOf('dst')]
  // A sum is the same both ways; three times the one makes a difference.
  return mix((symmetric ? src : src.mul(3)).add(dst))
}

/** The upper half of a hash, as a share of `count`: quicker than a remainder, and as even. */
function scaled(hash: Value<'u64'>, count: number): Value<'u32'> {
  return hash.shr(32).mul(count).shr(32).u32()
}

/** Balancing, loaded. */
export class BalanceProgram {
  readonly program: BpfProgram
  /** Sockets (see `BalanceTargets`), indexes of devices by number, or queue lengths of processors; the latter are filled in. */
  readonly targets: BpfMap<number, number>
  readonly #loaded: LoadedXdp

  private constructor(loaded: LoadedXdp, targets: BpfMap<number, number>) {
    this.#loaded = loaded
    this.program = loaded.program
    this.targets = targets
  }

  /** Loads the program. Throws `OptionError` for numbers of targets that cannot be, and processors that are not there. */
  static load(targets: BalanceTargets, options: BalanceOptions = {}): BalanceProgram {
    const definition = defineBalance(targets, options)
    if (targets.to === 'cpus') checkCpus(targets.cpus, 'cpus')
    const loaded = definition.load()
    try {
      if (targets.to === 'cpus') fillCpus(loaded, targets.cpus)
      return new BalanceProgram(loaded, targetMap(loaded, targets.to))
    } catch (error) {
      loaded.close()
      throw error
    }
  }

  /** Lets go of the program and its maps: they live on while attached. */
  close(): void {
    this.#loaded.close()
  }
}

function targetMap(loaded: LoadedXdp, to: BalanceTargets['to']): BpfMap<number, number> {
  switch (to) {
    case 'sockets':
      return loaded.map(socketMap(0))
    case 'devices':
      return loaded.map(deviceMap(0))
    case 'cpus':
      return loaded.map(cpuMap(0))
  }
}

function fillCpus(loaded: LoadedXdp, cpus: readonly number[]): void {
  const [queues, chosen] = [loaded.map(cpuMap(0)), loaded.map(chosenCpuMap(0))]
  cpus.forEach((cpu, number) => {
    queues.update(cpu, CPU_QUEUE)
    chosen.update(number, cpu)
  })
}

function readCpus(text: string): number[] {
  const isList = /^\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*$/.test(text)
  const cpus = understood('cpus', text, isList ? parseCpuList(text) : undefined, 'Use a list as in 0-3,8.')
  checkCpus(cpus, 'cpus')
  return cpus
}

/** `balance` by name. */
export const shippedBalance: ShippedProgram = {
  summary: 'spreads flows over sockets of a queue, devices or processors',
  settings: {
    sockets: { summary: 'over this many sockets of each queue (default: 2)', example: '4' },
    device: { summary: 'over devices instead, each named once', example: 'veth1' },
    cpus: { summary: 'over processors instead', example: '0-1' },
    by: {
      summary: 'what must be the same to stay together: ports or addresses (default: ports)',
      example: 'addresses',
    },
    symmetric: { summary: 'whether both directions stay together (default: no)', example: 'yes' },
  },
  define: (given, { queues }) => {
    const devices = given['device'] ?? []
    const cpus = (given['cpus'] ?? []).flatMap(readCpus)
    const sockets = oneNumber(given, 'sockets', { min: 1, max: MAX_TARGETS })
    const kinds = [sockets !== undefined, devices.length > 0, cpus.length > 0].filter(Boolean)
    if (kinds.length > 1) {
      throw new OptionError(
        'sockets',
        'Flows can be spread over one kind of targets',
        'Give one of sockets, device and cpus.',
      )
    }
    const targets: BalanceTargets =
      devices.length > 0
        ? { to: 'devices', count: devices.length }
        : cpus.length > 0
          ? { to: 'cpus', cpus }
          : { to: 'sockets', count: sockets ?? 2, queues }
    const by = oneWord(given, 'by', ['ports', 'addresses'])
    const symmetric = oneWord(given, 'symmetric', ['yes', 'no']) === 'yes'
    return {
      definition: defineBalance(targets, { ...(by && { by }), symmetric }),
      fill: (loaded) => {
        if (targets.to === 'cpus') fillCpus(loaded, targets.cpus)
        if (targets.to === 'devices') {
          const map = loaded.map(deviceMap(0))
          devices.forEach((name, number) => map.update(number, getInterface(name).index))
        }
      },
    }
  },
}
