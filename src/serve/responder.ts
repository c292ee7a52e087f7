// Answers ping, ARP and neighbour solicitations from a packet handler, in place.
import {
  ETH_ALEN,
  ETH_P_ARP,
  Headers,
  NO_REPLY,
  equalBytes,
  parseHeaders,
  replyToArp,
  replyToEcho,
  replyToNeighbourSolicitation,
} from '../packet/index.js'
import type { Verdict, XdpPacket } from '../xsk/index.js'

/** How many of each kind were answered. */
export interface ResponderCounts {
  echo4: number
  echo6: number
  arp: number
  neighbour: number
  /** Taken but not answered: damaged, or not addressed to one host. They are dropped, as the kernel would have. */
  ignored: number
}

/**
 * The ping responder's handler: `socket.run(responder.handle)`. It trusts the program in front of the socket to
 * hand over only what asks for an address of this host. Pings in several frames (`multiBuffer`) are answered in the frames they came
 * in. Allocates nothing per packet.
 */
export class Responder {
  readonly counts: ResponderCounts = { echo4: 0, echo6: 0, arp: 0, neighbour: 0, ignored: 0 }
  readonly #mac: Uint8Array
  readonly #frameSize: number
  readonly #headers = new Headers()

  /** `mac` is the hardware address to answer with, `frameSize` that of the UMEM the packets are in. */
  constructor({ mac, frameSize }: { mac: Uint8Array; frameSize: number }) {
    this.#mac = mac
    this.#frameSize = frameSize
  }

  readonly handle = (packet: XdpPacket): Verdict => {
    const { bytes, offset } = packet
    const headers = parseHeaders(bytes, offset, packet.length, this.#headers)
    const counts = this.counts
    if (!this.#isForUs(bytes, offset)) {
      counts.ignored++
      return undefined
    }
    let length = replyToEcho(bytes, headers, packet.totalLength)
    if (length !== NO_REPLY) {
      if (headers.ipVersion === 4) counts.echo4++
      else counts.echo6++
    } else if (packet.fragments === 1) {
      length = this.#sayWhere(packet)
    }
    if (length === NO_REPLY) {
      counts.ignored++
      return undefined
    }
    packet.length = length
    return 'transmit'
  }

  // Answers who asks for our hardware address: questions that are never longer than a frame.
  #sayWhere(packet: XdpPacket): number {
    const { bytes } = packet
    const headers = this.#headers
    if (headers.etherType === ETH_P_ARP) {
      const length = replyToArp(bytes, headers, this.#mac)
      if (length !== NO_REPLY) this.counts.arp++
      return length
    }
    // An advertisement can be longer than what it answers: it may use the frame to its end.
    const room = packet.frame + this.#frameSize - packet.offset
    const length = replyToNeighbourSolicitation(bytes, headers, this.#mac, room)
    if (length !== NO_REPLY) this.counts.neighbour++
    return length
  }

  // A switch floods what it does not know, and a port may be mirrored: a frame to another machine's address is not
  // for us, whatever its IP address (the kernel's PACKET_OTHERHOST).
  #isForUs(bytes: Uint8Array, offset: number): boolean {
    return (bytes[offset] & 1) === 1 || equalBytes(bytes, offset, this.#mac, 0, ETH_ALEN)
  }
}
