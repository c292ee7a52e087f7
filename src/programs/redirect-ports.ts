// What goes to given UDP and TCP ports goes to the queue's socket: the ground that servers stand on.
import { type BpfMap, type BpfProgram, be16, bytes, struct, u16, u8 } from '../bpf/index.js'
import {
  type LoadedXdp,
  type Local,
  type Xdp,
  type XdpDefinition,
  defineMap,
  defineXdp,
} from '../bpf/builder/index.js'
import { OptionError } from '../kernel/index.js'
import { ETH_P_IP, ETH_P_IPV6 } from '../packet/ethernet.js'
import { IPPROTO_TCP, IPPROTO_UDP } from '../packet/ipproto.js'
import { flowNumber } from './balance.js'
import { MAPPED_IPV4, mappedAddress } from './mapped-address.js'
import { type Endpoint, PORT_PROTOCOLS, parseEndpoints, understood } from './settings.js'
import type { ShippedProgram } from './shipped.js'
import { socketMap } from './sockets.js'

/** The most endpoints at a time. */
export const MAX_ENDPOINTS = 65_536

const ANY_ADDRESS = new Uint8Array(16)

/** An address (IPv4 as ::ffff:a.b.c.d, :: for any), a port, a protocol; padded to whole words. */
const endpointKey = struct({ address: bytes(16), port: be16, protocol: u8, zero: u8 })
const endpointMap = defineMap({
  type: 'hash',
  name: 'endpoints',
  key: endpointKey,
  value: u8,
  maxEntries: MAX_ENDPOINTS,
  preallocate: false,
})

const sourceAddress = bytes(16)
const vlanMap = defineMap({
  type: 'hash',
  name: 'vlans',
  key: u16,
  value: u8,
  maxEntries: 4096,
  preallocate: false,
})

/** What a redirect of ports can do beside. */
export interface RedirectPortsOptions {
  /** Take packets with one VLAN tag too, of the VLANs that are added. Default false: what is tagged passes. */
  vlans?: boolean
  /** Sockets of each queue, over which flows are spread as `BalanceProgram` does it: number s of queue q is at s * queues + q. Default 1. */
  socketsPerQueue?: number
  /** Looks at each packet that is about to be taken, with its source address (IPv4 as ::ffff:a.b.c.d), and may end the program. */
  guard?: (x: Xdp, source: Local<typeof sourceAddress>) => void
}

/**
 * ```
 * Ethernet, untagged ─┬─ IPv4, no options or fragment ─┬─ to an address and UDP or TCP port that are listed, ──→ the queue's
 *                     ├─ IPv6, no extension headers ───┘  or to a port that is listed for any address            socket, if any
 *                     └─ anything else: short, tagged, a fragment, another protocol, address or port ─→ pass to the kernel
 * ```
 *
 * What claims to come from where nothing can come from (0.0.0.0/8, 127.0.0.0/8, from 224.0.0.0 on; ::/64, ff00::/8) passes: the kernel
 * drops such sources (net/ipv4/route.c: ip_route_input_slow, net/ipv6/ip6_input.c: ip6_rcv_core), and programs trust 127.0.0.1.
 * Every fragment passes, so that the kernel gets all of a datagram or nothing of it. A port listed for any address is taken from
 * packets to other hosts too, which a router would have forwarded. `queues` is the most queues the device can ever have. Takes
 * packets in several buffers too, as `defineRedirect`. Kernel 5.3.
 */
export function defineRedirectPorts(
  queues: number,
  { vlans = false, socketsPerQueue = 1, guard }: RedirectPortsOptions = {},
): XdpDefinition {
  const sockets = socketMap(queues * socketsPerQueue)
  return defineXdp('xdp_ports', { frags: true }, (x) => {
    const key = x.uninitialized(endpointKey)
    const source = guard && x.uninitialized(sourceAddress)
    const eth = x.packet.ethernet(vlans ? { vlans: 1 } : {})
    if (vlans) x.if(eth.tags.ne(0), () => void x.lookup(vlanMap, eth.vlan).orReturn('pass'))
    x.if(eth.type.eq(ETH_P_IP), () => {
      const ip = eth.ipv4({ options: false, fragments: false })
      x.require(ip.protocol.in([IPPROTO_UDP, IPPROTO_TCP]))
      // 0.0.0.0/8, 127.0.0.0/8, groups and above
      const { src } = ip
      const isImpossible = src.and(0xff00_0000).in([0, 0x7f00_0000]).or(src.ge(0xe000_0000))
      x.require(isImpossible.not(), 'pass')
      key.fields.address.slice(0, 12).set(MAPPED_IPV4)
      key.fields.address.field(12, 'be32').set(ip.dst)
      source?.fields.slice(0, 12).set(MAPPED_IPV4)
      source?.fields.field(12, 'be32').set(src)
      key.fields.port.set(ip.transport().ports().dstPort)
      key.fields.protocol.set(ip.protocol)
    })
      .elseIf(eth.type.eq(ETH_P_IPV6), () => {
        const ip = eth.ipv6()
        x.require(ip.nextHeader.in([IPPROTO_UDP, IPPROTO_TCP]))
        // ::, ::1 and IPv4 in IPv6, groups
        const isImpossible = ip.src.field(0, 'u64').eq(0).or(ip.src.field(0, 'u8').eq(0xff))
        x.require(isImpossible.not(), 'pass')
        key.fields.address.set(ip.dst)
        source?.fields.set(ip.src)
        key.fields.port.set(ip.transport({ extensions: 0 }).ports().dstPort)
        key.fields.protocol.set(ip.nextHeader)
      })
      .else(() => 'pass')
    key.fields.zero.set(0)
    const isTaken = x.let(x.u32(0))
    x.ifPresent(x.lookup(endpointMap, key), () => isTaken.set(1))
    x.if(isTaken.value.eq(0), () => {
      key.fields.address.set(ANY_ADDRESS)
      x.lookup(endpointMap, key).orReturn('pass')
    })
    if (guard && source) guard(x, source)
    if (socketsPerQueue === 1) return x.redirectTo(sockets, x.queue)
    return x.redirectTo(sockets, flowNumber(x, socketsPerQueue).mul(queues).add(x.queue))
  })
}

/** Redirect of ports to sockets, loaded. The endpoints change while it runs, each at once. */
export class RedirectPortsProgram {
  readonly program: BpfProgram
  readonly #endpoints: BpfMap<{ address: Uint8Array; port: number; protocol: number; zero: number }, number>
  readonly #vlans: BpfMap<number, number> | undefined
  readonly #loaded: LoadedXdp

  /** Takes over what `defineRedirectPorts` made and has been loaded; close one of the two. */
  constructor(loaded: LoadedXdp, { vlans = false }: Pick<RedirectPortsOptions, 'vlans'> = {}) {
    this.#loaded = loaded
    this.program = loaded.program
    this.#endpoints = loaded.map(endpointMap)
    this.#vlans = vlans ? loaded.map(vlanMap) : undefined
  }

  /** Loads the program, which passes everything until there are endpoints. `queues` is the most queues the device can ever have. */
  static load({ queues, ...options }: RedirectPortsOptions & { queues: number }): RedirectPortsProgram {
    return new RedirectPortsProgram(defineRedirectPorts(queues, options).load(), options)
  }

  /** Sockets by queue. Throws `OptionError` when the program was loaded with a map of somebody else's. */
  get sockets(): BpfMap<number, number> {
    return this.#loaded.map(socketMap(0))
  }

  /** Takes what goes there from now on. Throws `KernelError` (E2BIG) beyond `MAX_ENDPOINTS`. */
  add(endpoint: Endpoint): void {
    this.#endpoints.update(keyOf(endpoint), 1)
  }

  /** Leaves what goes there to the kernel again; false when it was not taken. */
  remove(endpoint: Endpoint): boolean {
    return this.#endpoints.delete(keyOf(endpoint))
  }

  /** Takes what carries this VLAN's tag too, when it goes to one of the endpoints. The program must have been loaded with `vlans`. */
  addVlan(id: number): void {
    this.#requireVlans().update(id, 1)
  }

  /** Leaves that VLAN to the kernel again; false when it was not taken. */
  removeVlan(id: number): boolean {
    return this.#requireVlans().delete(id)
  }

  #requireVlans(): BpfMap<number, number> {
    if (this.#vlans) return this.#vlans
    throw new OptionError(
      'vlans',
      'This program was loaded to leave every VLAN to the kernel',
      'Load it with vlans: true.',
    )
  }

  /** Lets go of the program and its maps: they live on while attached. */
  close(): void {
    this.#loaded.close()
  }
}

const keyOf = ({ address, port, protocol }: Endpoint) => ({
  address: address ? mappedAddress(address) : ANY_ADDRESS,
  port,
  protocol: PORT_PROTOCOLS[protocol],
  zero: 0,
})

/** Redirect of ports by name: its endpoints as settings. */
export const shippedRedirectPorts: ShippedProgram = {
  summary: 'gives what goes to certain UDP and TCP ports to AF_XDP sockets, and the rest to the kernel',
  settings: {
    port: {
      summary: 'a port or a range of ports to take, at one address or at any (may be given again)',
      example: '10.0.0.1:53/udp',
    },
  },
  define: (given, { queues }) => {
    const endpoints = (given['port'] ?? []).flatMap((text) =>
      understood(
        'port',
        text,
        parseEndpoints(text),
        'Use 53/udp, 8000-8100/tcp, 10.0.0.1:53 or [fd00::1]:53.',
      ),
    )
    if (endpoints.length > MAX_ENDPOINTS) {
      throw new OptionError(
        'port',
        `${endpoints.length} endpoints are more than can be taken, each port of UDP and of TCP being one`,
        `Name up to ${MAX_ENDPOINTS}, as in 1-65535/udp, or take all packets with the program redirect.`,
      )
    }
    return {
      definition: defineRedirectPorts(queues),
      fill: (loaded) => {
        const program = new RedirectPortsProgram(loaded)
        for (const endpoint of endpoints) program.add(endpoint)
      },
    }
  },
}
