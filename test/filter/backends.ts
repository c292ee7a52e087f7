// What a filter can be run as, each behind the same question: does it take this packet?
import type { Filter } from '../../src/filter/index.js'
import { defineFilterProgram } from '../../src/filter/index.js'
import { readClassic, refusal, runClassic } from './classic.js'
import type { CorpusPacket } from './corpus/packets.js'
import { FilteredSocket } from './socket-filter.js'

/** A filter made ready. */
export interface Runner {
  matches(packet: CorpusPacket): boolean
  close?(): void
}

export interface Backend {
  name: string
  prepare(filter: Filter): Runner
  /** Whether the packet can be given to it as it is. */
  takes(packet: CorpusPacket): boolean
}

/** The kernel runs XDP programs on nothing shorter, and on more than a page of packet only in fragments. */
const XDP_SIZES = [14, 3400] as const
const isWhole = ({ bytes, wireLength }: CorpusPacket) => bytes.length === wireLength

/** The packet between other bytes: a filter that reads outside of it reads these. */
const MARGIN = 7
const surrounded = new Uint8Array(8192).fill(0xa5)

export const predicate: Backend = {
  name: 'TypeScript predicate',
  takes: () => true,
  prepare: (filter) => ({
    matches({ bytes, wireLength }) {
      surrounded.set(bytes, MARGIN)
      const result = filter.matches(surrounded, MARGIN, bytes.length, wireLength)
      surrounded.fill(0xa5, MARGIN, MARGIN + bytes.length)
      return result
    },
  }),
}

export const classic: Backend = {
  name: 'classic BPF',
  takes: () => true,
  prepare(filter) {
    const program = readClassic(filter.toClassicBpf())
    const reason = refusal(program)
    if (reason !== undefined) throw new Error(`the kernel would not attach it: ${reason}`)
    return { matches: ({ bytes, wireLength }) => runClassic(program, bytes, wireLength) !== 0 }
  },
}

export const classicInKernel: Backend = {
  name: 'classic BPF on a socket',
  takes: isWhole,
  prepare(filter) {
    const socket = new FilteredSocket()
    try {
      socket.attach(filter.toClassicBpf())
    } catch (error) {
      socket.close()
      throw error
    }
    return { matches: ({ bytes }) => socket.matches(bytes), close: () => socket.close() }
  },
}

export const ebpf: Backend = {
  name: 'eBPF',
  takes: (packet) =>
    isWhole(packet) && packet.bytes.length >= XDP_SIZES[0] && packet.bytes.length <= XDP_SIZES[1],
  prepare(filter) {
    const loaded = defineFilterProgram(filter, { match: 'pass', otherwise: 'drop' }).load()
    return {
      matches({ bytes }) {
        const { verdict } = loaded.program.testRun({ packet: bytes })
        if (verdict !== 'pass' && verdict !== 'drop') throw new Error(`verdict ${verdict}`)
        return verdict === 'pass'
      },
      close: () => loaded.close(),
    }
  },
}
