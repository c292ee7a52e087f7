// Reading pcapng (draft-ietf-opsawg-pcapng): sections of either byte order, several interfaces, unknown blocks skipped.
import { viewOf } from './bytes.js'
import { CaptureInput } from './pcap-input.js'
import { type CaptureProblem, MAX_CAPTURED_LENGTH, type PacketRecord } from './pcap-record.js'
import { ticksToTime } from './pcap-time.js'
import type { ReadStep } from './pcap.js'
import {
  BLOCK_ENHANCED_PACKET,
  BLOCK_INTERFACE,
  BLOCK_OVERHEAD,
  BLOCK_PACKET,
  BLOCK_SECTION,
  BLOCK_SIMPLE_PACKET,
  BLOCK_STATISTICS,
  BYTE_ORDER_MAGIC,
  type CaptureInterface,
  EPB_DROPCOUNT,
  EPB_FLAGS,
  EPB_PACKETID,
  EPB_QUEUE,
  EPB_VERDICT,
  OPT_END,
  type SectionInfo,
  VERDICT_EBPF_XDP,
} from './pcapng-layout.js'
import { readInterface, readSection, readStatistics, type Body } from './pcapng-options.js'

/** The longest block that is kept in memory; a longer one of a known type is a problem, of an unknown type skipped. */
export const MAX_BLOCK_LENGTH = 1 << 20
/** The most interfaces a section may describe, so that a file of nothing else cannot fill the memory. */
export const MAX_INTERFACES = 65536

/** Whether these 4 bytes begin a pcapng file. */
export function isPcapng(bytes: Uint8Array, offset: number): boolean {
  return viewOf(bytes).getUint32(offset) === BLOCK_SECTION
}

/**
 * Reads pcapng from chunks of any size. Feed `input`, then take packets with `next` until it says `more`. Holds one
 * block (1 MiB at most) and one chunk. Never throws for what the file says.
 */
export class PcapngReader {
  readonly input: CaptureInput
  section: SectionInfo | undefined
  /** The interfaces of the current section, in order; a new section begins a new array. */
  interfaces: CaptureInterface[] = []
  problem: CaptureProblem | undefined
  /** Blocks of types that are not known here. */
  skippedBlocks = 0
  #little = true

  constructor(input: CaptureInput = new CaptureInput()) {
    this.input = input
  }

  /** The next packet, into `into`; its bytes are valid until more input is fed. */
  next(into: PacketRecord): ReadStep {
    for (;;) {
      if (this.problem) return 'problem'
      const step = this.#nextBlock(into)
      if (step !== 'block') return step
    }
  }

  /** No more input comes: undefined when the file ended where a block ends. */
  finish(): CaptureProblem | undefined {
    if (this.problem) return this.problem
    const { input } = this
    if (!this.section || input.length > 0 || input.skipping) {
      this.#fail('truncated', `The file ends ${input.length} bytes into a block`)
    }
    return this.problem
  }

  #nextBlock(into: PacketRecord): ReadStep | 'block' {
    const { input } = this
    if (input.length < BLOCK_OVERHEAD) return 'more'
    const view = viewOf(input.bytes)
    const at = input.start
    // The type of a section's block reads the same in both byte orders.
    const isSection = view.getUint32(at) === BLOCK_SECTION
    if (isSection) {
      const magic = view.getUint32(at + 8, true)
      if (magic !== BYTE_ORDER_MAGIC && magic !== 0x4d3c2b1a) {
        return this.#fail('bad-byte-order', `The byte-order magic is ${magic.toString(16)}`)
      }
      this.#little = magic === BYTE_ORDER_MAGIC
    } else if (!this.section) {
      return this.#fail('unknown-format', 'The file does not begin with a section header block')
    }
    const little = this.#little
    const type = view.getUint32(at, little)
    const length = view.getUint32(at + 4, little)
    const least = leastLength(type)
    if (length < least || length % 4 !== 0) {
      return this.#fail('bad-length', `A block of type ${type} and ${length} bytes; ${least} is the least`)
    }
    if (least === BLOCK_OVERHEAD) {
      this.skippedBlocks++
      input.skip(length)
      return 'block'
    }
    if (length > MAX_BLOCK_LENGTH) {
      return this.#fail('bad-length', `A block of ${length} bytes; ${MAX_BLOCK_LENGTH} is the most`)
    }
    if (input.length < length) return 'more'
    const repeated = view.getUint32(at + length - 4, little)
    if (repeated !== length) {
      return this.#fail('length-mismatch', `A block of ${length} bytes ends with the length ${repeated}`)
    }
    const step = this.#readBlock(type, view, at + 8, at + length - 4, into)
    if (step !== 'problem') input.skip(length)
    return step
  }

  #readBlock(type: number, view: DataView, at: number, end: number, into: PacketRecord): ReadStep | 'block' {
    switch (type) {
      case BLOCK_ENHANCED_PACKET:
      case BLOCK_PACKET:
        return this.#readPacket(type, view, at, end, into)
      case BLOCK_SIMPLE_PACKET:
        return this.#readSimplePacket(view, at, end, into)
      default:
        return this.#readDescription(type, { bytes: this.input.bytes, view, at, end, little: this.#little })
    }
  }

  #readDescription(type: number, body: Body): 'block' | 'problem' {
    if (type === BLOCK_SECTION) {
      const section = readSection(body)
      if ('problem' in section) return this.#fail(section.problem, section.detail)
      this.section = section
      this.interfaces = []
    } else if (type === BLOCK_INTERFACE) {
      const described = readInterface(body)
      if ('problem' in described) return this.#fail(described.problem, described.detail)
      if (this.interfaces.length === MAX_INTERFACES) {
        return this.#fail('bad-length', `A section of more than ${MAX_INTERFACES} interfaces`)
      }
      this.interfaces.push(described)
    } else {
      const device = this.interfaces.at(body.view.getUint32(body.at, body.little))
      if (!device) return this.#unknownInterface(body.view.getUint32(body.at, body.little))
      const statistics = readStatistics(body, device.scale)
      if ('problem' in statistics) return this.#fail(statistics.problem, statistics.detail)
      device.statistics = statistics
    }
    return 'block'
  }

  #readPacket(
    type: number,
    view: DataView,
    at: number,
    end: number,
    into: PacketRecord,
  ): 'packet' | 'problem' {
    const little = this.#little
    const isEnhanced = type === BLOCK_ENHANCED_PACKET
    const id = isEnhanced ? view.getUint32(at, little) : view.getUint16(at, little)
    if (id >= this.interfaces.length) return this.#unknownInterface(id)
    const device = this.interfaces[id]
    const length = view.getUint32(at + 12, little)
    const data = at + 20
    if (length > MAX_CAPTURED_LENGTH || data + length > end) {
      return this.#fail(
        'bad-length',
        `A packet of ${length} captured bytes in a block with room for ${end - data}`,
      )
    }
    into.reset()
    ticksToTime(view.getUint32(at + 4, little), view.getUint32(at + 8, little), device.scale, into)
    into.bytes = this.input.bytes
    into.offset = data
    into.length = length
    into.wireLength = Math.max(length, view.getUint32(at + 16, little))
    into.interfaceId = id
    into.linkType = device.linkType
    if (!isEnhanced) {
      const drops = view.getUint16(at + 2, little)
      if (drops !== 0xffff) into.dropCount = drops
    }
    return this.#readPacketOptions(view, data + ((length + 3) & ~3), end, into)
  }

  #readPacketOptions(view: DataView, first: number, end: number, into: PacketRecord): 'packet' | 'problem' {
    const little = this.#little
    for (let at = first; at + 4 <= end;) {
      const code = view.getUint16(at, little)
      const length = view.getUint16(at + 2, little)
      if (code === OPT_END) break
      const value = at + 4
      if (value + length > end) {
        return this.#fail(
          'bad-option',
          `Option ${code} of ${length} bytes in a block with room for ${end - value}`,
        )
      }
      if (code === EPB_FLAGS && length === 4) {
        const direction = view.getUint32(value, little) & 3
        into.direction = direction === 1 ? 'inbound' : direction === 2 ? 'outbound' : 'unknown'
      } else if (code === EPB_DROPCOUNT && length === 8) {
        into.dropCount = readU64(view, value, little)
      } else if (code === EPB_PACKETID && length === 8) {
        into.packetId = readU64(view, value, little)
      } else if (code === EPB_QUEUE && length === 4) {
        into.queue = view.getUint32(value, little)
      } else if (code === EPB_VERDICT && length === 9 && view.getUint8(value) === VERDICT_EBPF_XDP) {
        into.verdict = readU64(view, value + 1, little)
      }
      at = value + ((length + 3) & ~3)
    }
    return 'packet'
  }

  #readSimplePacket(view: DataView, at: number, end: number, into: PacketRecord): 'packet' | 'problem' {
    const device = this.interfaces.at(0)
    if (!device) return this.#unknownInterface(0)
    const wireLength = view.getUint32(at, this.#little)
    const length = Math.min(wireLength, device.snapLength || Infinity)
    if (length > MAX_CAPTURED_LENGTH || at + 4 + length > end) {
      return this.#fail(
        'bad-length',
        `A packet of ${length} captured bytes in a block with room for ${end - at - 4}`,
      )
    }
    into.reset()
    into.bytes = this.input.bytes
    into.offset = at + 4
    into.length = length
    into.wireLength = wireLength
    into.linkType = device.linkType
    return 'packet'
  }

  #unknownInterface(id: number): 'problem' {
    return this.#fail(
      'unknown-interface',
      `Interface ${id}, in a section that has described ${this.interfaces.length}`,
    )
  }

  #fail(problem: CaptureProblem['problem'], detail: string): 'problem' {
    this.problem = { problem, offset: this.input.position, detail }
    return 'problem'
  }
}

/** The shortest a block can be; BLOCK_OVERHEAD alone says that the type is not known here. */
function leastLength(type: number): number {
  switch (type) {
    case BLOCK_SECTION:
      return BLOCK_OVERHEAD + 16
    case BLOCK_INTERFACE:
      return BLOCK_OVERHEAD + 8
    case BLOCK_SIMPLE_PACKET:
      return BLOCK_OVERHEAD + 4
    case BLOCK_STATISTICS:
      return BLOCK_OVERHEAD + 12
    case BLOCK_ENHANCED_PACKET:
    case BLOCK_PACKET:
      return BLOCK_OVERHEAD + 20
    default:
      return BLOCK_OVERHEAD
  }
}

/** A 64-bit number; past 2^53 its last digits are not exact. */
export function readU64(view: DataView, at: number, little: boolean): number {
  const high = view.getUint32(little ? at + 4 : at, little)
  return high * 4294967296 + view.getUint32(little ? at : at + 4, little)
}
