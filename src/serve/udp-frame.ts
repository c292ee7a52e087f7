// Frames with one UDP datagram, written in place: a request turned around, or new headers before a payload.
import { viewOf } from '../packet/bytes.js'
import {
  ETH_HLEN,
  ETH_P_IP,
  ETH_P_IPV6,
  IPV4_AT,
  IPV4_HLEN,
  IPV6_AT,
  IPV6_HLEN,
  UDP_HLEN,
  VLAN_HLEN,
  fold,
  setU16,
  wordSum,
  wordsOf,
  type Headers,
} from '../packet/index.js'

/** The most bytes in front of a payload: Ethernet, a VLAN tag, IPv6, UDP. */
export const MAX_HEADERS = ETH_HLEN + VLAN_HLEN + IPV6_HLEN + UDP_HLEN

/** Bytes of IP and UDP header in front of a payload. */
export const headersOf = (version: 4 | 6): number => (version === 4 ? IPV4_HLEN : IPV6_HLEN) + UDP_HLEN

// Identifies the fragments that a router may make of a datagram (RFC 6864 4.3). IPv6 routers make none.
export const identification = { last: Math.floor(Math.random() * 0x10000) }

// Sums are of little-endian 16-bit words here (`wordSum`), and stored little-endian too: the ones' complement sum does not care for the order
// of bytes (RFC 1071 section 2), and so no load or store has to turn its bytes round.
//
// What runs for every datagram is spelt out: field offsets are numbers with their names beside them, all loads come before all stores. V8 of Node 20 neither folds an imported constant nor forgets to check a function of the
// module before each call, and after a store through a DataView it checks the view anew. This halves the time.

/**
 * Whether the checksums of a UDP packet, as `parseHeaders` found it, are right, as the kernel would judge them. `view` and
 * `words` are of the same memory, from its first byte on.
 */
export function checksumsValid(view: DataView, words: Int32Array, h: Headers): boolean {
  const l3 = h.l3Offset
  const l4 = h.l4Offset
  const isIpv4 = h.ipVersion === 4
  // All ones but for the carries, and never 0.
  if (isIpv4 && fold(wordSum(words, l3, l4)) !== 0xffff) return false
  const rest = view.getInt32(l4 + 4, true) // length, checksum
  const stored = rest >>> 16
  if (stored === 0) return isIpv4
  // The pseudo-header (RFC 768, RFC 8200 section 8.1) is the addresses, which stand in front of the UDP header, IPPROTO_UDP and the length.
  const addresses = isIpv4 ? l3 + 12 : l3 + 8
  const pseudo = 0x1100 + (rest & 0xffff)
  if (fold(wordSum(words, addresses, h.payloadEnd) + pseudo) === 0xffff) return true
  // From a local sender, over a virtual link, with the rest of the sum left to a device that is not there: the sum of
  // the pseudo-header alone (CHECKSUM_PARTIAL). There is no wire that could have damaged it.
  return stored === fold(wordSum(words, addresses, l4) + pseudo)
}

/**
 * Makes the datagram at hand one to its sender, of `length` bytes that stand where its payload stands: addresses and ports
 * swapped, lengths and checksums computed. Returns the frame's length.
 */
export function turnAround(view: DataView, words: Int32Array, h: Headers, length: number): number {
  const l2 = h.offset
  const l3 = h.l3Offset
  const l4 = h.l4Offset
  const a = view.getInt32(l2, true)
  const b = view.getInt32(l2 + 4, true)
  const c = view.getInt32(l2 + 8, true)
  const ports = view.getInt32(l4, true)
  let sum = wordSum(words, l4 + 8, l4 + 8 + length) + (ports & 0xffff) + (ports >>> 16)
  if (h.ipVersion === 4) {
    const source = view.getInt32(l3 + 12, true)
    const destination = view.getInt32(l3 + 16, true)
    const addresses = (source & 0xffff) + (source >>> 16) + (destination & 0xffff) + (destination >>> 16)
    sum += addresses
    writeIpv4(view, l3, addresses, 28 + length)
    view.setInt32(l3 + 12, destination, true)
    view.setInt32(l3 + 16, source, true)
  } else {
    sum += turnIpv6(view, l3, 8 + length)
  }
  writeUdpEnd(view, l4, sum, 8 + length)
  view.setInt32(l4, (ports << 16) | (ports >>> 16), true)
  // Twelve bytes of hardware addresses as three words, rotated by six bytes.
  view.setInt32(l2, (b >>> 16) | (c << 16), true)
  view.setInt32(l2 + 4, (c >>> 16) | (a << 16), true)
  view.setInt32(l2 + 8, (a >>> 16) | (b << 16), true)
  return l4 + 8 + length - l2
}

// Answers the sum of the addresses.
function turnIpv6(view: DataView, l3: number, payloadLength: number): number {
  const a = view.getInt32(l3 + 8, true)
  const b = view.getInt32(l3 + 12, true)
  const c = view.getInt32(l3 + 16, true)
  const d = view.getInt32(l3 + 20, true)
  const e = view.getInt32(l3 + 24, true)
  const f = view.getInt32(l3 + 28, true)
  const g = view.getInt32(l3 + 32, true)
  const i = view.getInt32(l3 + 36, true)
  view.setInt32(l3 + 8, e, true)
  view.setInt32(l3 + 12, f, true)
  view.setInt32(l3 + 16, g, true)
  view.setInt32(l3 + 20, i, true)
  view.setInt32(l3 + 24, a, true)
  view.setInt32(l3 + 28, b, true)
  view.setInt32(l3 + 32, c, true)
  view.setInt32(l3 + 36, d, true)
  writeIpv6(view, l3, payloadLength)
  const source = (a & 0xffff) + (a >>> 16) + (b & 0xffff) + (b >>> 16) + (c & 0xffff) + (c >>> 16)
  const both = source + (d & 0xffff) + (d >>> 16) + (e & 0xffff) + (e >>> 16) + (f & 0xffff) + (f >>> 16)
  return both + (g & 0xffff) + (g >>> 16) + (i & 0xffff) + (i >>> 16)
}

// All of the header but the addresses, which are there: their sum.
function writeIpv4(view: DataView, l3: number, addresses: number, totalLength: number): void {
  const id = (identification.last + 1) & 0xffff
  identification.last = id
  const turned = ((totalLength & 0xff) << 8) | ((totalLength >>> 8) & 0xff)
  // Version, header length; may be fragmented: nobody here would hear that it was too big for a link on its way; TTL, protocol.
  const sum = addresses + 0x0045 + turned + id + 0x1140
  const once = (sum & 0xffff) + (sum >>> 16)
  const folded = (once & 0xffff) + (once >>> 16)
  view.setInt32(l3, 0x0045 | (turned << 16), true)
  view.setInt32(l3 + 4, id, true)
  view.setInt32(l3 + 8, 0x1140 | (~folded << 16), true)
}

function writeIpv6(view: DataView, l3: number, payloadLength: number): void {
  view.setInt32(l3, 0x60000000)
  view.setInt32(l3 + 4, (payloadLength << 16) | 0x1140) // IPPROTO_UDP, IPDEFTTL
}

// Length and checksum, given the sum of addresses, ports and payload.
function writeUdpEnd(view: DataView, l4: number, others: number, udpLength: number): void {
  const turned = ((udpLength & 0xff) << 8) | ((udpLength >>> 8) & 0xff)
  const sum = others + 0x1100 + turned + turned
  const once = (sum & 0xffff) + (sum >>> 16)
  const folded = (once & 0xffff) + (once >>> 16)
  // A checksum of 0 would say that there is none, and its equal in ones' complement is sent instead.
  const checksum = folded === 0xffff ? 0xffff : ~folded
  view.setInt32(l4 + 4, turned | (checksum << 16), true)
}

/** Ethernet addresses, a VLAN tag perhaps, and the type: what the frames to one destination begin with. */
export class LinkHeader {
  /** Of IP. */
  version: 4 | 6 = 4
  readonly #bytes = new Uint8Array(ETH_HLEN + VLAN_HLEN)
  #length = ETH_HLEN

  /** Sets everything but the destination. */
  set(source: Uint8Array, vlan: { id: number; tpid: number } | undefined, version: 4 | 6): void {
    this.version = version
    this.#bytes.set(source, 6)
    if (vlan) {
      setU16(this.#bytes, 12, vlan.tpid)
      setU16(this.#bytes, 14, vlan.id)
    }
    this.#length = vlan ? ETH_HLEN + VLAN_HLEN : ETH_HLEN
    setU16(this.#bytes, this.#length - 2, version === 4 ? ETH_P_IP : ETH_P_IPV6)
  }

  set destination(mac: Uint8Array) {
    this.#bytes.set(mac, 0)
  }

  /** Bytes in front of a payload, link to UDP. */
  get headers(): number {
    return this.#length + headersOf(this.version)
  }

  /** Writes all headers around the payload of `length` bytes at `offset + headers`. Returns the frame's length. */
  write(
    bytes: Uint8Array,
    offset: number,
    source: Uint8Array,
    srcPort: number,
    destination: Uint8Array,
    dstPort: number,
    length: number,
  ): number {
    const own = this.#bytes
    const l3 = offset + this.#length
    for (let i = 0; i < this.#length; i++) bytes[offset + i] = own[i]
    const addresses = l3 + (this.version === 4 ? IPV4_AT.src : IPV6_AT.src)
    const size = this.version === 4 ? 4 : 16
    for (let i = 0; i < size; i++) {
      bytes[addresses + i] = source[i]
      bytes[addresses + size + i] = destination[i]
    }
    const l4 = l3 + (this.version === 4 ? IPV4_HLEN : IPV6_HLEN)
    const at = l4 + UDP_HLEN
    const view = viewOf(bytes)
    const words = wordsOf(bytes)
    const start = bytes.byteOffset
    const sum = wordSum(words, start + addresses, start + addresses + 2 * size)
    if (this.version === 4) writeIpv4(view, l3, sum, IPV4_HLEN + UDP_HLEN + length)
    else writeIpv6(view, l3, UDP_HLEN + length)
    view.setInt32(l4, (srcPort << 16) | dstPort)
    writeUdpEnd(
      view,
      l4,
      sum + wordSum(words, start + l4, start + l4 + 4) + wordSum(words, start + at, start + at + length),
      UDP_HLEN + length,
    )
    return at + length - offset
  }
}
