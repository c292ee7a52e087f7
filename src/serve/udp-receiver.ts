// From packets to messages and back: what the program has taken is checked, given to who listens, and answered in place.
import type { Interface } from '../kernel/index.js'
import { Headers, parseHeaders } from '../packet/index.js'
import type { Verdict, XdpPacket } from '../xsk/index.js'
import { checksumsValid, turnAround } from './udp-frame.js'
import type { UdpEndpoint, UdpListeners } from './udp-listeners.js'
import { NO_REPLY, UdpMessage } from './udp-message.js'

/** What was taken by the program and given to nobody. */
export interface UdpDropCounts {
  /** Header or checksum wrong. */
  damaged: number
  /** To another hardware address, or to nobody here any more. */
  unwanted: number
  /** Waited for their next hop in vain, or found too many waiting. */
  unresolved: number
}

/** What a receiver is made of. */
export interface UdpReceiverParts {
  /** The memory the packets are in. */
  bytes: Uint8Array
  frameSize: number
  /** The interface's name, which is the zone of link-local addresses. */
  zone: string
  listeners: UdpListeners
  drops: UdpDropCounts
  /** Told by which queue the message at hand came; -1 afterwards. */
  sender: { batchOf: number }
  /** An endpoint's handler threw. */
  failed: (endpoint: UdpEndpoint, error: Error) => void
}

// A link that frames come by: the interface, or a VLAN on it. Its hardware address as its first two and its last four bytes.
interface Link {
  high: number
  low: number
  mtu: number
  /** Its tag; -1 for the interface itself. */
  vlan: number
}

const NO_LINK: Link = { high: -1, low: 0, mtu: -1, vlan: -1 }

/** Handles the packets of one interface. */
export class UdpReceiver {
  readonly #frameSize: number
  readonly #listeners: UdpListeners
  readonly #drops: UdpDropCounts
  readonly #sender: { batchOf: number }
  readonly #failed: UdpReceiverParts['failed']
  readonly #headers = new Headers()
  readonly #message: UdpMessage
  // The interface itself, and with it the VLAN interfaces on it.
  #device = NO_LINK
  #links: readonly Link[] = []

  constructor(parts: UdpReceiverParts) {
    this.#frameSize = parts.frameSize
    this.#listeners = parts.listeners
    this.#drops = parts.drops
    this.#sender = parts.sender
    this.#failed = parts.failed
    this.#message = new UdpMessage(parts.bytes, parts.zone)
  }

  /** Takes up the hardware addresses and MTUs of the interface and of the VLAN interfaces on it. */
  setLinks(device: Interface, vlans: readonly Interface[]): void {
    this.#links = [device, ...vlans].map(({ mac, mtu, vlan }, i) => ({
      high: (mac[0] << 8) | mac[1],
      low: (mac[2] << 24) | (mac[3] << 16) | (mac[4] << 8) | mac[5],
      mtu,
      vlan: i === 0 ? -1 : (vlan?.id ?? -1),
    }))
    this.#device = this.#links[0]
  }

  /** The handler of every socket of the interface. */
  readonly handle = (packet: XdpPacket): Verdict => {
    const { view, offset } = packet
    const h = parseHeaders(packet.bytes, offset, packet.length, this.#headers)
    const l3 = h.l3Offset
    const isIpv4 = h.ipVersion === 4
    const payload = h.payloadOffset
    // Options and extension headers the program leaves to the kernel.
    if (
      h.problem !== 'none' ||
      h.protocol !== 17 ||
      h.fragment !== 'none' ||
      payload - l3 !== (isIpv4 ? 28 : 48)
    ) {
      this.#drops.damaged++
      return undefined
    }
    const vlan = h.outerVlan
    const link = vlan < 0 ? this.#device : this.#linkOf(vlan)
    const high = view.getUint16(offset)
    const isToGroup = (high & 0x100) !== 0
    const listening = this.#listeners.on(h.dstPort)
    const endpoint = listening.length === 1 ? listening[0] : this.#choose(packet, h)
    // To another machine, as a switch or a mirror port may flood it: the kernel's PACKET_OTHERHOST.
    const isOthers = !isToGroup && (high !== link.high || view.getInt32(offset + 2) !== link.low)
    if (endpoint === undefined || isOthers) {
      this.#drops.unwanted++
      return undefined
    }
    if (endpoint.verifiesChecksums && !checksumsValid(view, h)) {
      this.#drops.damaged++
      return undefined
    }
    // How much a reply in place may hold: nothing when it would come from a group's address, or go to port 0.
    const destination = view.getUint8(l3 + (isIpv4 ? 16 : 24))
    const inFrame = packet.frame + this.#frameSize - payload
    const inPacket = link.mtu - (payload - l3)
    const room = inFrame < inPacket ? inFrame : inPacket
    const message = this.#message
    message.offset = payload
    message.length = h.payloadEnd - payload
    message.port = h.srcPort
    message.localPort = h.dstPort
    message.family = isIpv4 ? 4 : 6
    message.vlan = vlan
    message.addressAt = l3 + (isIpv4 ? 12 : 8)
    message.room = isToGroup || destination >= (isIpv4 ? 224 : 255) || h.srcPort === 0 ? -1 : room
    message.begin(endpoint)
    const { counts } = endpoint
    counts.received++
    this.#sender.batchOf = packet.queue
    try {
      endpoint.deliver(message)
    } catch (error) {
      this.#sender.batchOf = -1
      message.end()
      this.#failed(endpoint, error as Error)
      return undefined
    }
    this.#sender.batchOf = -1
    const reply = message.end()
    if (reply === NO_REPLY) return undefined
    counts.replied++
    if (reply < 0 || packet.frame < 0) return undefined
    packet.length = turnAround(view, h, reply)
    return 'transmit'
  }

  // What frames with this tag come by: without an interface of its own, the interface.
  #linkOf(vlan: number): Link {
    for (const link of this.#links) if (link.vlan === vlan) return link
    return this.#device
  }

  #choose(packet: XdpPacket, h: Headers): UdpEndpoint | undefined {
    const [at, size] = h.ipVersion === 4 ? ([16, 4] as const) : ([24, 16] as const)
    return this.#listeners.choose(h.dstPort, packet.bytes, h.l3Offset + at, size)
  }
}
