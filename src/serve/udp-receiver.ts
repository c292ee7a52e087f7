// From packets to messages and back: what the program has taken is checked, given to who listens, and answered in place.
import type { Interface } from '../kernel/index.js'
import {
  Headers,
  IPPROTO_UDP,
  IPV4_AT,
  IPV4_HLEN,
  IPV6_AT,
  IPV6_HLEN,
  parseHeaders,
} from '../packet/index.js'
import type { Verdict, XdpPacket } from '../xsk/index.js'
import { checksumsValid, turnAround } from './udp-frame.js'
import type { UdpEndpoint, UdpListeners } from './udp-listeners.js'
import { UdpMessage } from './udp-message.js'

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

/** Handles the packets of one interface. */
export class UdpReceiver {
  readonly #parts: UdpReceiverParts
  readonly #headers = new Headers()
  readonly #message: UdpMessage
  // Hardware addresses that are ours, each as its first two and its last four bytes.
  #macs: { high: number; low: number; mtu: number; vlan: number }[] = []
  #deliveringTo: UdpEndpoint | undefined

  constructor(parts: UdpReceiverParts) {
    this.#parts = parts
    this.#message = new UdpMessage(parts.bytes, {
      replyElsewhere: (message, payload) => this.#deliveringTo?.replyElsewhere(message, payload) ?? false,
    })
  }

  /** Takes up the hardware addresses and MTUs of the interface and of the VLAN interfaces on it. */
  setLinks(device: Interface, vlans: readonly Interface[]): void {
    this.#macs = [device, ...vlans].map((link) => ({
      high: (link.mac[0] << 8) | link.mac[1],
      low: (link.mac[2] << 24) | (link.mac[3] << 16) | (link.mac[4] << 8) | link.mac[5],
      mtu: link.mtu,
      vlan: link === device ? -1 : (link.vlan?.id ?? -1),
    }))
  }

  /** The handler of every socket of the interface. */
  readonly handle = (packet: XdpPacket): Verdict => {
    const { drops, listeners, sender } = this.#parts
    const { bytes, view, offset } = packet
    const h = parseHeaders(bytes, offset, packet.length, this.#headers)
    const l3 = h.l3Offset
    const l4 = h.l4Offset
    if (
      h.problem !== 'none' ||
      h.protocol !== IPPROTO_UDP ||
      h.fragment !== 'none' ||
      l4 - l3 !== (h.ipVersion === 4 ? IPV4_HLEN : IPV6_HLEN)
    ) {
      drops.damaged++
      return undefined
    }
    const listening = listeners.on(h.dstPort)
    const endpoint = listening.length === 1 ? listening[0] : this.#choose(bytes, h)
    const mtu = this.#mtuFor(packet, h.outerVlan)
    if (endpoint === undefined || mtu < 0) {
      drops.unwanted++
      return undefined
    }
    if (endpoint.verifiesChecksums && !checksumsValid(view, h)) {
      drops.damaged++
      return undefined
    }
    const message = this.#message
    message.offset = h.payloadOffset
    message.length = h.payloadEnd - h.payloadOffset
    message.port = h.srcPort
    message.localPort = h.dstPort
    message.family = h.ipVersion === 4 ? 4 : 6
    message.vlan = h.outerVlan
    message.addressAt = l3 + (h.ipVersion === 4 ? IPV4_AT.src : IPV6_AT.src)
    message.room = this.#room(packet, mtu)
    message.begin(this.#parts.zone)
    sender.batchOf = packet.queue
    this.#deliveringTo = endpoint
    try {
      endpoint.deliver(message)
    } catch (error) {
      message.end()
      this.#parts.failed(endpoint, error as Error)
      return undefined
    } finally {
      sender.batchOf = -1
      this.#deliveringTo = undefined
    }
    const reply = message.end()
    if (reply < 0 || packet.frame < 0) return undefined
    packet.length = turnAround(view, h, reply)
    return 'transmit'
  }

  // How much a reply in place may hold; nothing when it would come from a group's address, or go to port 0.
  #room(packet: XdpPacket, mtu: number): number {
    const h = this.#headers
    const { bytes } = packet
    const destination = bytes[h.l3Offset + (h.ipVersion === 4 ? IPV4_AT.dst : IPV6_AT.dst)]
    const isGroup = h.ipVersion === 4 ? destination >= 224 : destination === 0xff
    if (isGroup || (bytes[h.offset] & 1) === 1 || h.srcPort === 0) return -1
    const inFrame = packet.frame + this.#parts.frameSize - h.payloadOffset
    const inPacket = mtu - (h.payloadOffset - h.l3Offset)
    return inFrame < inPacket ? inFrame : inPacket
  }

  #choose(bytes: Uint8Array, h: Headers): UdpEndpoint | undefined {
    const at = h.l3Offset + (h.ipVersion === 4 ? IPV4_AT.dst : IPV6_AT.dst)
    return this.#parts.listeners.choose(h.dstPort, bytes, at, h.ipVersion === 4 ? 4 : 16)
  }

  // The MTU of the link that the frame came by; -1 for a frame to another machine, as a switch or a mirror port may flood
  // them (the kernel's PACKET_OTHERHOST).
  #mtuFor({ view, offset }: XdpPacket, vlan: number): number {
    const high = view.getUint16(offset)
    const low = view.getInt32(offset + 2)
    const macs = this.#macs
    for (let i = 0; i < macs.length; i++) {
      const mac = macs[i]
      if (mac.vlan === vlan || macs.length === 1)
        return (high & 0x100) !== 0 || (mac.low === low && mac.high === high) ? mac.mtu : -1
    }
    // A VLAN that has no interface here.
    const mac = macs[0]
    return mac !== undefined && mac.low === low && mac.high === high ? mac.mtu : -1
  }
}
