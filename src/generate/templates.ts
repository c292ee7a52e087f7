// The packets that a generator sends copies of.
import { buildPacket } from '../packet/build.js'
import { OptionError } from '../kernel/index.js'
import type { TemplateLayout } from './program.js'
import { STAMP_BYTES, writeStamp } from './stamp.js'

/** UDP packets from one host to another. */
export interface TemplateOptions {
  /** MAC addresses: `02:00:00:00:00:01`. */
  srcMac: string
  dstMac: string
  /** IP addresses, both of one version. */
  src: string
  dst: string
  /** Of the first flow; those of the others follow. Default 49152. */
  srcPort?: number
  /** Default 9, discard. */
  dstPort?: number
  /** VLAN tags, the outermost first: their ids. */
  vlans?: readonly number[]
  /** Which stream the stamps are of: 0 to 65535. Default 0. */
  stream?: number
  /** Bytes of a frame without its checksum, sent by turns. Default: the
   * smallest there can be, 60 for IPv4 and 80 for IPv6. */
  sizes?: readonly number[]
}

/** A packet with room for a stamp, and where that is. */
export interface Template {
  readonly bytes: Uint8Array
  readonly layout: TemplateLayout
}

export const FIRST_PORT = 49_152
export const DISCARD_PORT = 9
const LARGEST = 9000

/** Builds one template a size. Throws `OptionError` for sizes without room for a stamp, `PacketError` for addresses that are none. */
export function buildTemplates(options: TemplateOptions): Template[] {
  const { src, dst, srcPort = FIRST_PORT, dstPort = DISCARD_PORT, vlans = [] } = options
  const isIpv6 = dst.includes(':')
  const headers = 14 + 4 * vlans.length + (isIpv6 ? 40 : 20) + 8
  const smallest = headers + STAMP_BYTES
  return (options.sizes ?? [smallest]).map((size) => {
    if (!Number.isInteger(size) || size < smallest || size > LARGEST) {
      throw new OptionError(
        'size',
        `A frame of ${size} bytes cannot be made`,
        `Use ${smallest} to ${LARGEST}: ${headers} bytes of headers, and ${STAMP_BYTES} of number and time at least.`,
      )
    }
    const payload = new Uint8Array(size - headers)
    writeStamp(payload, 0, { stream: options.stream ?? 0, sequence: 0, time: 0 })
    const bytes = buildPacket({
      ethernet: { dst: options.dstMac, src: options.srcMac },
      vlans: vlans.map((id) => ({ id })),
      ...(isIpv6 ? { ipv6: { src, dst } } : { ipv4: { src, dst } }),
      udp: { srcPort, dstPort },
      payload,
    })
    return { bytes, layout: { stamp: headers, port: headers - 8 } }
  })
}
