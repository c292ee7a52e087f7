// What filters can be run as, each behind the same question: which of them take this packet?
import { BpfProgram, asm, assemble } from '../../src/bpf/index.js'
import { type XdpDefinition, defineXdp } from '../../src/bpf/builder/index.js'
import type { Filter } from '../../src/filter/index.js'
import { defineFilterProgram, requireMatch } from '../../src/filter/index.js'
import type { LabEnd } from '../../src/lab/index.js'
import { readClassic, refusal, runClassic } from './classic.js'
import type { CorpusPacket } from './corpus/packets.js'
import { PacketTaps } from './packet-taps.js'
import { FilteredSocket } from './socket-filter.js'

/** Filters made ready, until others are. */
export interface Runner {
  /** Sets a byte for each filter: 1 where it takes the packet, else 0. */
  judge(packet: CorpusPacket, verdicts: Uint8Array): void
  close?(): void
}

export interface Backend {
  name: string
  /** How many filters it runs at once. */
  width: number
  /** Makes as many filters ready, or fewer. */
  prepare(filters: readonly Filter[]): Runner
  /** Whether the packet can be given to it as it is. */
  takes(packet: CorpusPacket): boolean
  /** Gives back what it has for all of them. */
  close?(): void
}

/** The kernel runs XDP programs on nothing shorter, and on more than a page of packet only in fragments. */
const XDP_SIZES = [14, 3400] as const
const isWhole = ({ bytes, wireLength }: CorpusPacket) => bytes.length === wireLength

/** The packet between other bytes: a filter that reads outside of it reads these. */
const MARGIN = 7
const surrounded = new Uint8Array(8192).fill(0xa5)

export const predicate: Backend = {
  name: 'TypeScript predicate',
  width: 64,
  takes: () => true,
  prepare: (filters) => ({
    judge({ bytes, wireLength }, verdicts) {
      surrounded.set(bytes, MARGIN)
      filters.forEach((filter, i) => {
        verdicts[i] = Number(filter.matches(surrounded, MARGIN, bytes.length, wireLength))
      })
      surrounded.fill(0xa5, MARGIN, MARGIN + bytes.length)
    },
  }),
}

export const classic: Backend = {
  name: 'classic BPF',
  width: 1,
  takes: () => true,
  prepare([filter]) {
    const program = readClassic(filter.toClassicBpf())
    const reason = refusal(program)
    if (reason !== undefined) throw new Error(`the kernel would not attach it: ${reason}`)
    return {
      judge({ bytes, wireLength }, verdicts) {
        verdicts[0] = Number(runClassic(program, bytes, wireLength) !== 0)
      },
    }
  },
}

/** Packet sockets that look at one end of a lab, each with a filter of its own. What no device would send goes to other sockets. */
export function classicInKernel(end: LabEnd): Backend {
  const width = 32
  const taps = new PacketTaps(end, width)
  const sockets = Array.from({ length: width }, () => new FilteredSocket())
  return {
    name: 'classic BPF on sockets',
    width,
    takes: isWhole,
    prepare(filters) {
      const programs = filters.map((filter) => filter.toClassicBpf())
      taps.attach(programs)
      programs.forEach((program, i) => sockets[i].attach(program))
      return {
        judge({ bytes }, verdicts) {
          if (taps.takes(bytes)) return taps.judge(bytes, verdicts)
          programs.forEach((_, i) => (verdicts[i] = Number(sockets[i].matches(bytes))))
        },
      }
    },
    close() {
      taps.close()
      sockets.forEach((socket) => socket.close())
    },
  }
}

const programs = new WeakMap<Filter, XdpDefinition>()

/** The program that a filter is by itself. */
function programOf(filter: Filter): XdpDefinition {
  const made = programs.get(filter) ?? defineFilterProgram(filter, { match: 'pass', otherwise: 'drop' })
  programs.set(filter, made)
  return made
}

/** The same, of a filter that sees all buffers of a packet. */
const farProgramOf = (filter: Filter): XdpDefinition =>
  defineXdp('far', { frags: true }, (x) => {
    requireMatch(x, filter, 'drop', 'packet')
    return 'pass'
  })

/** Throws unless the verifier takes the filter's own program. */
export function verify(filter: Filter): void {
  programOf(filter).load().close()
}

/**
 * Programs, each byte for byte as it is by itself, as functions of one that calls them all: bit `i` of what it returns is 1 where
 * program `i` passes the packet. The packet begins behind `before` bytes.
 */
function composed(definitions: readonly XdpDefinition[], before = 0): Uint8Array {
  const { r0, r1, r2, r6, r7 } = asm
  const bodies = definitions.map(({ assembled }) => assembled.bytes)
  const shorten = before === 0 ? [] : [asm.mov(r2, before), asm.call('xdp_adjust_head')]
  const calls = bodies.map((_, i) => [
    asm.mov(r1, r6),
    asm.callLocal(`filter${i}`),
    // XDP_PASS is 2, XDP_DROP is 1.
    asm.rsh(r0, 1),
    asm.lsh(r0, i),
    asm.or(r7, r0),
  ])
  const main = [asm.mov(r6, r1), asm.mov(r7, 0), ...shorten, ...calls, asm.mov(r0, r7), asm.exit()]
  // Calls are relative to where they stand: each function is laid out as so many empty instructions, then put there.
  const stand = bodies.map((body, i) => [
    asm.label(`filter${i}`),
    Array.from({ length: body.length / 8 - 1 }, () => asm.mov(r0, 0)),
    asm.exit(),
  ])
  const { bytes, labels } = assemble([main, ...stand])
  bodies.forEach((body, i) => bytes.set(body, 8 * labels.get(`filter${i}`)!))
  return bytes
}

export const ebpf: Backend = {
  name: 'eBPF',
  width: 32,
  takes: (packet) =>
    isWhole(packet) && packet.bytes.length >= XDP_SIZES[0] && packet.bytes.length <= XDP_SIZES[1],
  prepare(filters) {
    const code = composed(filters.map(programOf))
    const program = BpfProgram.load({ type: 'xdp', name: 'filters', code })
    return {
      judge({ bytes }, verdicts) {
        const { returnValue } = program.testRun({ packet: bytes })
        for (let i = 0; i < filters.length; i++) verdicts[i] = (returnValue >>> i) & 1
      },
      close: () => program.close(),
    }
  },
}

/** The longest packet that the kernel runs a program on in one buffer. */
function oneBuffer(): number {
  const length = defineXdp('length', { frags: true }, (x) => {
    x.if(x.packet.length.eq(x.packet.fullLength), () => 'pass')
    return 'drop'
  })
  using loaded = length.load()
  const isOne = (size: number) => loaded.program.testRun({ packet: new Uint8Array(size) }).verdict === 'pass'
  let [least, most] = [64, 4096]
  while (most - least > 1) {
    const middle = (least + most) >> 1
    if (isOne(middle)) least = middle
    else most = middle
  }
  return least
}

/** Filters that see all buffers of packets of which only the first `near` bytes lie in the first one. */
export function ebpfInBuffers(near: number): Backend {
  // A packet behind so many bytes, which are taken away before it is looked at, has the rest of it in the next buffer.
  const before = oneBuffer() - near
  return {
    name: `eBPF with ${near} bytes at hand`,
    width: 16,
    takes: (packet) => isWhole(packet) && packet.bytes.length >= near && packet.bytes.length <= XDP_SIZES[1],
    prepare(filters) {
      const code = composed(filters.map(farProgramOf), before)
      const program = BpfProgram.load({ type: 'xdp', name: 'filters', code, frags: true })
      return {
        judge({ bytes }, verdicts) {
          const packet = new Uint8Array(before + bytes.length)
          packet.set(bytes, before)
          const { returnValue } = program.testRun({ packet })
          for (let i = 0; i < filters.length; i++) verdicts[i] = (returnValue >>> i) & 1
        },
        close: () => program.close(),
      }
    },
  }
}
