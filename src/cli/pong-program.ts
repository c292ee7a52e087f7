// The ping responder behind a program of the user's choice, which may hand over more than the responder is to answer.
import { getInterface, listAddresses } from '../kernel/index.js'
import {
  ARP_AT,
  ETH_P_ARP,
  Headers,
  IPPROTO_ICMPV6,
  IPV4_AT,
  IPV6_AT,
  NDISC_NEIGHBOUR_SOLICITATION,
  NEIGHBOUR_AT,
  equalBytes,
  parseHeaders,
} from '../packet/index.js'
import { Responder, type ResponderCounts } from '../serve/responder.js'
import { XdpGroup, type PacketHandler, type XdpGroupOptions } from '../xsk/index.js'
import type { Steering } from './steering.js'

/** What `PingServer` is too, for a program that does not look at addresses. */
export interface PongServer {
  readonly group: XdpGroup
  readonly handle: PacketHandler
  readonly counts: Readonly<ResponderCounts>
  refreshAddresses(): Uint8Array[]
  close(): Promise<void>
}

/**
 * Opens the sockets and attaches the program. What it hands over and is not for one of the addresses goes nowhere: it is
 * counted as ignored. Throws as `XdpSocket.open` does.
 */
export async function openPong(
  program: Steering,
  options: Omit<XdpGroupOptions, 'program'> & { addresses: readonly Uint8Array[] },
): Promise<PongServer> {
  const { namespace } = options
  const device = getInterface(options.interface, { namespace })
  const group = await XdpGroup.open({ ...options, program })
  const responder = new Responder({ mac: device.mac, frameSize: group.sockets[0].umem.frameSize })
  const headers = new Headers()
  let ours: Uint8Array[] = []
  let foreign = 0
  return {
    group,
    get counts() {
      return { ...responder.counts, ignored: responder.counts.ignored + foreign }
    },
    handle: (packet) => {
      parseHeaders(packet.bytes, packet.offset, packet.length, headers)
      if (isFor(ours, packet.bytes, headers)) return responder.handle(packet)
      foreign++
      return undefined
    },
    refreshAddresses: () => {
      const own = listAddresses({ namespace, ifindex: device.index }).map(({ address }) => address)
      return (ours = [...own, ...options.addresses])
    },
    close: () => group.close(),
  }
}

/** Whether a packet asks for one of the addresses: echo at its destination, ARP and neighbour discovery at their target. */
function isFor(addresses: readonly Uint8Array[], bytes: Uint8Array, headers: Headers): boolean {
  if (headers.problem !== 'none') return false
  const at = targetAt(bytes, headers)
  const length = headers.ipVersion === 6 ? 16 : 4
  for (const address of addresses) {
    if (address.length === length && equalBytes(bytes, at, address, 0, length)) return true
  }
  return false
}

function targetAt(bytes: Uint8Array, headers: Headers): number {
  const { etherType, ipVersion, protocol, l3Offset, l4Offset } = headers
  if (etherType === ETH_P_ARP) return l3Offset + ARP_AT.targetIp
  if (ipVersion !== 6) return l3Offset + IPV4_AT.dst
  const isSolicitation = protocol === IPPROTO_ICMPV6 && bytes[l4Offset] === NDISC_NEIGHBOUR_SOLICITATION
  return isSolicitation ? l4Offset + NEIGHBOUR_AT.target : l3Offset + IPV6_AT.dst
}
