// Frames with one UDP datagram, written in place: a request turned around, or new headers before a payload.
import {
  ETH_HLEN,
  ETH_P_IP,
  ETH_P_IPV6,
  IPDEFTTL,
  IPPROTO_UDP,
  IPV4_AT,
  IPV4_HLEN,
  IPV6_AT,
  IPV6_HLEN,
  UDP_AT,
  UDP_HLEN,
  VLAN_HLEN,
  checkL4Checksum,
  checksum,
  fold,
  pseudoHeaderSum,
  getU16,
  ipv4ChecksumValid,
  setL4Checksum,
  setU16,
  setU32,
  swapIpv4Addresses,
  swapIpv6Addresses,
  swapMacs,
  type Headers,
} from '../packet/index.js'

/** The most bytes in front of a payload: Ethernet, a VLAN tag, IPv6, UDP. */
export const MAX_HEADERS = ETH_HLEN + VLAN_HLEN + IPV6_HLEN + UDP_HLEN

/** Bytes of IP and UDP header in front of a payload. */
export const headersOf = (version: 4 | 6): number => (version === 4 ? IPV4_HLEN : IPV6_HLEN) + UDP_HLEN

// Identifies the fragments that a router may make of a datagram (RFC 6864 4.3). IPv6 routers make none.
let identification = Math.floor(Math.random() * 0x10000)

/** Whether the checksums of a UDP packet, as `parseHeaders` found it, are right, as the kernel would judge them. */
export function checksumsValid(bytes: Uint8Array, h: Headers): boolean {
  const l3 = h.l3Offset
  const l4 = h.l4Offset
  if (h.ipVersion === 4 && !ipv4ChecksumValid(bytes, l3)) return false
  if (checkL4Checksum(bytes, IPPROTO_UDP, l3, l4, h.payloadEnd) !== 'invalid') return true
  // From a local sender, over a virtual link, with the rest of the sum left to a device that is not there: the sum of
  // the pseudo-header alone (CHECKSUM_PARTIAL). There is no wire that could have damaged it.
  const stored = getU16(bytes, l4 + UDP_AT.checksum)
  return stored !== 0 && stored === fold(pseudoHeaderSum(bytes, l3, IPPROTO_UDP, h.payloadEnd - l4))
}

/**
 * Makes the datagram at hand one to its sender, of `length` bytes that stand where its payload stands: addresses and ports
 * swapped, lengths and checksums computed. Returns the frame's length.
 */
export function turnAround(bytes: Uint8Array, h: Headers, length: number): number {
  const l3 = h.l3Offset
  const l4 = h.l4Offset
  swapMacs(bytes, h.offset)
  const ports = getU16(bytes, l4 + UDP_AT.srcPort)
  setU16(bytes, l4 + UDP_AT.srcPort, getU16(bytes, l4 + UDP_AT.dstPort))
  setU16(bytes, l4 + UDP_AT.dstPort, ports)
  if (h.ipVersion === 4) {
    swapIpv4Addresses(bytes, l3)
    writeIpv4(bytes, l3, l4 + UDP_HLEN + length - l3)
  } else {
    swapIpv6Addresses(bytes, l3)
    setU32(bytes, l3 + IPV6_AT.versionClassFlow, 0x60000000)
    setU16(bytes, l3 + IPV6_AT.payloadLength, UDP_HLEN + length)
    bytes[l3 + IPV6_AT.hopLimit] = IPDEFTTL
  }
  return finish(bytes, h.offset, l3, l4, length)
}

// All of the header but the addresses, which are there.
function writeIpv4(bytes: Uint8Array, l3: number, totalLength: number): void {
  setU16(bytes, l3 + IPV4_AT.versionLength, 0x4500)
  setU16(bytes, l3 + IPV4_AT.totalLength, totalLength)
  identification = (identification + 1) & 0xffff
  setU16(bytes, l3 + IPV4_AT.identification, identification)
  // May be fragmented: nobody here would hear that it was too big for a link on its way.
  setU16(bytes, l3 + IPV4_AT.fragment, 0)
  setU16(bytes, l3 + IPV4_AT.ttl, (IPDEFTTL << 8) | IPPROTO_UDP)
  setU16(bytes, l3 + IPV4_AT.checksum, 0)
  setU16(bytes, l3 + IPV4_AT.checksum, checksum(bytes, l3, IPV4_HLEN))
}

function finish(bytes: Uint8Array, offset: number, l3: number, l4: number, length: number): number {
  const end = l4 + UDP_HLEN + length
  setU16(bytes, l4 + UDP_AT.length, UDP_HLEN + length)
  setL4Checksum(bytes, IPPROTO_UDP, l3, l4, end)
  return end - offset
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
    if (this.version === 4) {
      writeIpv4(bytes, l3, IPV4_HLEN + UDP_HLEN + length)
    } else {
      setU32(bytes, l3 + IPV6_AT.versionClassFlow, 0x60000000)
      setU16(bytes, l3 + IPV6_AT.payloadLength, UDP_HLEN + length)
      setU16(bytes, l3 + IPV6_AT.nextHeader, (IPPROTO_UDP << 8) | IPDEFTTL)
    }
    setU16(bytes, l4 + UDP_AT.srcPort, srcPort)
    setU16(bytes, l4 + UDP_AT.dstPort, dstPort)
    return finish(bytes, offset, l3, l4, length)
  }
}
