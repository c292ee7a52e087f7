// From packets to messages and back: what the program has taken is checked, given to who listens, and answered in place.
import type { Interface } from '../kernel/index.js'
import { Headers, fold, parseHeaders, wordSum, wordsOf } from '../packet/index.js'
import type { Verdict, XdpPacket } from '../xsk/index.js'
import { UDP_COUNTER } from './udp-counters.js'
import { checksumsValid, turnAround } from './udp-frame.js'
import type { UdpEndpoint, UdpListeners } from './udp-listeners.js'
import { NO_REPLY, UdpMessage } from './udp-message.js'
import { INLINE_WORDS, readPlainIpv6, turnPlain } from './udp-plain.js'

/** What a receiver is made of. */
export interface UdpReceiverParts {
  /** The memory the packets are in. */
  bytes: Uint8Array
  frameSize: number
  /** The interface's name, which is the zone of link-local addresses. */
  zone: string
  listeners: UdpListeners
  /** Slots of `UDP_COUNTER`: counts what nobody was given. */
  counters: Float64Array
  /** Told by which queue the message at hand came; -1 afterwards. */
  sender: { batchOf: number }
  /** An endpoint's handler threw. What is thrown here ends the batch. */
  failed: (endpoint: UdpEndpoint, error: Error) => void
}

// A link that frames come by: the interface, or a VLAN on it. Its hardware address as its first four and its last two bytes, little-endian.
interface Link {
  first: number
  last: number
  mtu: number
  /** Its tag; -1 for the interface itself. */
  vlan: number
}

// V8 of Node 20 does not fold what is imported.
const { received: RECEIVED, replied: REPLIED, damaged: DAMAGED, unwanted: UNWANTED } = UDP_COUNTER

const NO_LINK: Link = { first: 0, last: -1, mtu: -1, vlan: -1 }

/** Handles the packets of one interface. */
export class UdpReceiver {
  readonly #frameSize: number
  readonly #words: Int32Array
  readonly #listeners: UdpListeners
  readonly #counters: Float64Array
  readonly #sender: { batchOf: number }
  readonly #failed: UdpReceiverParts['failed']
  readonly #headers = new Headers()
  readonly #message: UdpMessage
  // The interface itself, and with it the VLAN interfaces on it.
  #device = NO_LINK
  #links: readonly Link[] = []

  constructor(parts: UdpReceiverParts) {
    this.#frameSize = parts.frameSize
    this.#words = wordsOf(parts.bytes)
    this.#listeners = parts.listeners
    this.#counters = parts.counters
    this.#sender = parts.sender
    this.#failed = parts.failed
    this.#message = new UdpMessage(parts.bytes, parts.zone)
  }

  /** Takes up the hardware addresses and MTUs of the interface and of the VLAN interfaces on it. */
  setLinks(device: Interface, vlans: readonly Interface[]): void {
    this.#links = [device, ...vlans].map(({ mac, mtu, vlan }, i) => ({
      first: mac[0] | (mac[1] << 8) | (mac[2] << 16) | (mac[3] << 24),
      last: mac[4] | (mac[5] << 8),
      mtu,
      vlan: i === 0 ? -1 : (vlan?.id ?? -1),
    }))
    this.#device = this.#links[0]
  }

  /**
   * The handler of every socket of the interface. Here are the ordinary datagrams: untagged, IPv4 without options, whole, in a
   * packet that begins with a word of memory. They are read, checked and delivered in one piece, because V8 has a
   * budget for what it makes one piece of, and a call or two more took a third of the time. The packet's words, little-endian:
   *
   *     0-2  hardware addresses, 6 bytes each       7   end of the source address, start of the destination address
   *     3    EtherType, version and length, TOS     8   end of the destination address, source port
   *     4    total length, identification           9   destination port, UDP length
   *     5    flags and fragment offset, TTL, UDP   10   checksum, start of the payload
   *     6    header checksum, start of the source address
   */
  readonly handle = (packet: XdpPacket): Verdict => {
    const words = this.#words
    const { offset, length } = packet
    const at = offset >>> 2
    const w3 = words[at + 3]
    const w5 = words[at + 5]
    // ETH_P_IP, version 4, five words; no IP_MF, no IP_OFFSET, IPPROTO_UDP.
    if (
      (offset & 3) !== 0 ||
      length < 42 ||
      (w3 & 0xffffff) !== 0x450008 ||
      (w5 & 0xff00ff3f) !== 0x11000000
    ) {
      return this.#handleAny(packet)
    }
    const w4 = words[at + 4]
    const w6 = words[at + 6]
    const w7 = words[at + 7]
    const w8 = words[at + 8]
    const w9 = words[at + 9]
    const w10 = words[at + 10]
    const totalLength = ((w4 & 0xff) << 8) | ((w4 >>> 8) & 0xff)
    const udpLength = ((w9 >>> 8) & 0xff00) | (w9 >>> 24)
    if (totalLength + 14 > length || udpLength + 20 > totalLength || udpLength < 8)
      return this.#handleAny(packet)
    const mac = words[at]
    const isToGroup = (mac & 1) !== 0
    const localPort = ((w9 & 0xff) << 8) | ((w9 >>> 8) & 0xff)
    const listeners = this.#listeners
    const endpoint =
      localPort === listeners.lastPort
        ? listeners.last
        : listeners.find(localPort, packet.bytes, offset + 30, 4)
    const link = this.#device
    // To another machine, as a switch or a mirror port may flood it: the kernel's PACKET_OTHERHOST.
    const isOthers = !isToGroup && (mac !== link.first || (words[at + 1] & 0xffff) !== link.last)
    if (endpoint === undefined || isOthers) {
      this.#counters[UNWANTED]++
      return undefined
    }
    // As `checksumsValid` says it of any. 0xffff is all ones but for the carries; 0 it never is.
    if (endpoint.verifiesChecksums !== false) {
      const addresses = (w6 >>> 16) + (w7 & 0xffff) + (w7 >>> 16) + (w8 & 0xffff)
      let sum = addresses + (w3 >>> 16) + (w4 & 0xffff) + (w4 >>> 16)
      sum += (w5 & 0xffff) + (w5 >>> 16) + (w6 & 0xffff)
      sum = (sum & 0xffff) + (sum >>> 16)
      let isRight = sum === 0xffff
      const stored = w10 & 0xffff
      if (isRight && stored !== 0) {
        const pseudo = addresses + 0x1100 + (w9 >>> 16)
        const end = offset + 34 + udpLength
        const last = end >>> 2
        sum = pseudo + (w8 >>> 16) + (w9 & 0xffff) + (w9 >>> 16)
        if (last - at > INLINE_WORDS) sum = (sum + wordSum(words, offset + 40, end)) | 0
        else {
          for (let i = at + 10; i < last; i++) {
            const word = words[i]
            sum = (sum + (word & 0xffff) + (word >>> 16)) | 0
          }
          if ((end & 3) !== 0) {
            const word = words[last] & ~(-1 << ((end & 3) << 3))
            sum = (sum + (word & 0xffff) + (word >>> 16)) | 0
          }
        }
        sum = (sum & 0xffff) + (sum >>> 16)
        sum = (sum & 0xffff) + (sum >>> 16)
        isRight = sum === 0xffff || stored === fold(pseudo)
      }
      if (!isRight) {
        this.#counters[DAMAGED]++
        return undefined
      }
    }
    const port = ((w8 >>> 8) & 0xff00) | (w8 >>> 24)
    const inFrame = packet.frame + this.#frameSize - offset - 42
    const inPacket = link.mtu - 28
    const room = inFrame < inPacket ? inFrame : inPacket
    const message = this.#message
    message.offset = offset + 42
    message.length = udpLength - 8
    message.port = port
    message.localPort = localPort
    message.family = 4
    message.vlan = -1
    message.addressAt = offset + 26
    message.room = isToGroup || ((w7 >>> 16) & 0xff) >= 224 || port === 0 ? -1 : room
    const reply = this.#deliver(packet, endpoint)
    if (reply < 0) return undefined
    packet.length = turnPlain(words, offset, reply)
    return 'transmit'
  }

  #handleAny(packet: XdpPacket): Verdict {
    const h = this.#headers
    if (!readPlainIpv6(this.#words, packet.offset, packet.length, h)) {
      parseHeaders(packet.bytes, packet.offset, packet.length, h)
      // Options and extension headers the program leaves to the kernel.
      if (
        h.problem !== 'none' ||
        h.protocol !== 17 ||
        h.fragment !== 'none' ||
        h.payloadOffset - h.l3Offset !== (h.ipVersion === 4 ? 28 : 48)
      ) {
        this.#counters[DAMAGED]++
        return undefined
      }
    }
    const { view, offset } = packet
    const l3 = h.l3Offset
    const isIpv4 = h.ipVersion === 4
    const payload = h.payloadOffset
    const vlan = h.outerVlan
    const link = vlan < 0 ? this.#device : this.#linkOf(vlan)
    const mac = view.getInt32(offset, true)
    const isToGroup = (mac & 1) !== 0
    const listeners = this.#listeners
    const endpoint = h.dstPort === listeners.lastPort ? listeners.last : this.#find(packet, h)
    const isOthers = !isToGroup && (mac !== link.first || view.getUint16(offset + 4, true) !== link.last)
    if (endpoint === undefined || isOthers) {
      this.#counters[UNWANTED]++
      return undefined
    }
    if (endpoint.verifiesChecksums && !checksumsValid(view, this.#words, h)) {
      this.#counters[DAMAGED]++
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
    const reply = this.#deliver(packet, endpoint)
    if (reply < 0) return undefined
    packet.length = turnAround(view, this.#words, h, reply)
    return 'transmit'
  }

  // Gives an endpoint the message at hand. Answers how long its reply in place is; negative when there is none.
  #deliver(packet: XdpPacket, endpoint: UdpEndpoint): number {
    const message = this.#message
    const { counters } = endpoint
    message.begin(endpoint)
    counters[RECEIVED]++
    this.#sender.batchOf = packet.queue
    try {
      endpoint.deliver(message)
    } catch (error) {
      this.#sender.batchOf = -1
      message.end()
      this.#failed(endpoint, error as Error)
      return NO_REPLY
    }
    this.#sender.batchOf = -1
    const reply = message.end()
    if (reply === NO_REPLY) return NO_REPLY
    counters[REPLIED]++
    return packet.frame < 0 ? NO_REPLY : reply
  }

  // What frames with this tag come by: without an interface of its own, the interface.
  #linkOf(vlan: number): Link {
    for (const link of this.#links) if (link.vlan === vlan) return link
    return this.#device
  }

  #find(packet: XdpPacket, h: Headers): UdpEndpoint | undefined {
    const [at, size] = h.ipVersion === 4 ? ([16, 4] as const) : ([24, 16] as const)
    return this.#listeners.find(h.dstPort, packet.bytes, h.l3Offset + at, size)
  }
}
