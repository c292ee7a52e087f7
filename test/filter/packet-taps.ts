// Classic BPF where users run it: packet sockets with filters, which all see a packet leave by the same interface.
import { attachClassicFilter, bindPacketSocket, openPacketSocket } from '../../src/capture/packet-socket.js'
import { MappedRegion, PAGE_SIZE, check, native } from '../../src/kernel/index.js'
import type { LabEnd } from '../../src/lab/index.js'

// include/uapi/linux/if_packet.h
const AF_PACKET = 17
const SOL_PACKET = 263
const PACKET_RX_RING = 5
const PACKET_VERSION = 10
const TPACKET_V2 = 1
const TP_STATUS_USER = 1
const PACKET_OUTGOING = 4
/** Of a packet no more than its header is of interest: struct tpacket2_hdr, then struct sockaddr_ll. */
const FRAME_BYTES = 128
const FRAMES = PAGE_SIZE / FRAME_BYTES
const PKTTYPE_OFFSET = 32 + 10
const ETH_HLEN = 14

interface Tap {
  readonly fd: number
  readonly region: MappedRegion
  readonly bytes: Uint8Array
  readonly words: Int32Array
  /** The frame that the kernel fills next. */
  next: number
}

/**
 * Sockets, each with a program. What is sent out of the lab's end gets to all of them before the sending call returns.
 *
 * Making a ring, and closing a socket that has one, waits until no processor can be at it any more: synchronize_net(), in
 * packet_set_ring() and packet_release(), about 50 ms a socket altogether. To exchange a program waits for nothing: sockets are
 * for one set of programs after the other.
 */
export class PacketTaps {
  readonly #taps: Tap[] = []
  readonly #sender: number
  readonly #address = new DataView(new ArrayBuffer(20)) // struct sockaddr_ll
  readonly #longest: number

  #used = 0

  /** The lab has to be a quiet one: packets of its own would be taken for ours. */
  constructor({ interface: name, ifindex, mtu, namespace }: LabEnd, sockets: number) {
    this.#longest = ETH_HLEN + mtu
    this.#sender = openPacketSocket(namespace)
    this.#address.setUint16(0, AF_PACKET, true)
    this.#address.setInt32(4, ifindex, true)
    try {
      for (let i = 0; i < sockets; i++) {
        const fd = openPacketSocket(namespace)
        try {
          const region = ringOf(fd)
          const { buffer } = region
          const views = { bytes: new Uint8Array(buffer), words: new Int32Array(buffer) }
          this.#taps.push({ fd, region, ...views, next: 0 })
        } catch (error) {
          native.close(fd)
          throw error
        }
        bindPacketSocket(fd, ifindex, name)
      }
    } catch (error) {
      this.close()
      throw error
    }
  }

  /** Puts programs, `struct sock_filter[]`, in the place of those before: at most as many as there are sockets. */
  attach(programs: readonly Uint8Array[]): void {
    for (const [i, program] of programs.entries()) attachClassicFilter(this.#taps[i].fd, program)
    // Sockets that were not asked in the meantime have seen packets all the same.
    this.#taps.forEach(take)
    this.#used = programs.length
  }

  /** Whether the device sends such a packet. */
  takes({ length }: Uint8Array): boolean {
    return length >= ETH_HLEN && length <= this.#longest
  }

  /** Sends the packet, and sets a byte for each program: 1 where the packet was let through to its socket, else 0. */
  judge(packet: Uint8Array, verdicts: Uint8Array): void {
    check(native.send(this.#sender, packet, 0, this.#address), 'sendto')
    for (let i = 0; i < this.#used; i++) verdicts[i] = take(this.#taps[i])
  }

  close(): void {
    for (const { fd, region } of this.#taps.splice(0)) {
      region.close()
      native.close(fd)
    }
    native.close(this.#sender)
  }
}

/** One page as a ring of frames. */
function ringOf(fd: number): MappedRegion {
  check(native.setsockopt(fd, SOL_PACKET, PACKET_VERSION, Uint32Array.of(TPACKET_V2)), 'PACKET_VERSION')
  const request = Uint32Array.of(PAGE_SIZE, 1, FRAME_BYTES, FRAMES)
  check(native.setsockopt(fd, SOL_PACKET, PACKET_RX_RING, request), 'PACKET_RX_RING')
  return MappedRegion.map({ fd, length: PAGE_SIZE })
}

/** Empties a ring: 1 if a packet that left was in it. */
function take(tap: Tap): number {
  let taken = 0
  for (;;) {
    const at = tap.next * FRAME_BYTES
    const status = at / Int32Array.BYTES_PER_ELEMENT
    if ((tap.words[status] & TP_STATUS_USER) === 0) return taken
    if (tap.bytes[at + PKTTYPE_OFFSET] === PACKET_OUTGOING) taken = 1
    tap.words[status] = 0
    tap.next = (tap.next + 1) % FRAMES
  }
}
