// Filters in XDP programs: in front, as a condition, or alone.
import { createHash } from 'node:crypto'
import type { Verdict } from '../bpf/constants.js'
import {
  type Condition,
  type FunctionDefinition,
  Value,
  type Xdp,
  type XdpDefinition,
  defineFunction,
  defineXdp,
} from '../bpf/builder/index.js'
import { disassemble } from '../bpf/disassemble.js'
import { withoutLocations } from '../bpf/builder/location.js'
import type { Point, VariableKey } from '../bpf/builder/trace.js'
import type { FilterCode } from './linear.js'
import { Translation, type FilterReach } from './translate.js'

/**
 * Whether the packet matches, for use in a program: `x.if(matchFilter(x, filter), …)`. The filter's code is put here, and runs
 * here.
 *
 * It looks at what lies in the packet's first buffer, as all of a program does that was not loaded for several buffers; a test
 * that would look beyond its end fails the packet, and `len` is that buffer's length. `reach` lets it look further.
 */
export function matchFilter<R>(
  x: Xdp<R>,
  filter: FilterCode,
  reach: FilterReach = 'first buffer',
): Condition {
  const { tracer } = x
  return withoutLocations(() => {
    const key: VariableKey = { name: 'match' }
    const [matched, rejected] = translate(x, filter, reach)
    const ends = [
      { point: matched, value: 1n },
      { point: rejected, value: 0n },
    ].map(({ point, value }) => {
      tracer.moveTo(point)
      tracer.writeVariable(key, value)
      return tracer.point
    })
    tracer.moveTo(tracer.join(ends))
    return new Value(tracer, 'u32', tracer.readVariable(key)).ne(0)
  })
}

/**
 * Goes on only with packets that match; with all of them where there is no filter. The others get `verdict`, by default `pass`: the
 * hook by which a program takes a filter in front. `reach` is what the filter sees of packets in several buffers.
 */
export function requireMatch(
  x: Xdp,
  filter: FilterCode | undefined,
  verdict: Verdict = 'pass',
  reach: FilterReach = 'first buffer',
): void {
  if (!filter) return
  const { tracer } = x
  withoutLocations(() => {
    const [matched, rejected] = translate(x, filter, reach)
    tracer.moveTo(rejected)
    x.return(verdict)
    tracer.moveTo(matched)
  })
}

/**
 * Puts a filter's code here, and gives the places behind it for packets that match and for the others.
 *
 * A filter that sees all buffers is there twice: as it is for the first one, which costs what it costs alone, and as a function that
 * packets are judged by anew which have other buffers and had not enough in the first.
 */
function translate<R>(x: Xdp<R>, filter: FilterCode, reach: FilterReach): [matched: Point, rejected: Point] {
  const { tracer } = x
  const [matched, rejected, short] = new Translation(tracer, filter.program, reach).run()
  if (reach !== 'packet') return [matched, rejected]
  tracer.moveTo(short)
  const isWhole = tracer.branch('!=', 32, x.packet.fullLength.operand, x.packet.length.operand)
  const isOther = tracer.branch('!=', 32, x.call(anywhere(filter), {}).operand, 0n)
  return [tracer.join([matched, tracer.point])!, tracer.join([rejected, isWhole, isOther])!]
}

const functions = new WeakMap<FilterCode, FunctionDefinition<Record<never, never>, 'u32'>>()

/** Whether the packet matches, as a function that reads what it needs from whatever buffer (xdp_load_bytes, 5.18). */
function anywhere(filter: FilterCode): FunctionDefinition<Record<never, never>, 'u32'> {
  const name = `filter_${createHash('sha256').update(filter.expression).digest('hex').slice(0, 8)}`
  const made =
    functions.get(filter) ??
    defineFunction({ name, parameters: {}, result: 'u32' }, (x) => {
      const [matched, rejected] = new Translation(x.tracer, filter.program, 'packet', true).run()
      x.tracer.moveTo(rejected)
      x.return(0)
      x.tracer.moveTo(matched)
      return 1
    })
  functions.set(filter, made)
  return made
}

/** What a filter's own program answers. */
export interface FilterVerdicts {
  /** What a packet gets that matches. */
  match: Verdict
  /** What any other gets. */
  otherwise: Verdict
}

/** A program that does nothing but say whether packets match: for tests, and to drop or pass by a filter. */
export function defineFilterProgram(filter: FilterCode, { match, otherwise }: FilterVerdicts): XdpDefinition {
  return withoutLocations(() =>
    defineXdp('xdp_filter', { otherwise }, (x) => {
      requireMatch(x, filter, otherwise)
      return match
    }),
  )
}

/** The code of a program that passes what matches and drops the rest. */
export function ebpfCode(filter: FilterCode): Uint8Array {
  return defineFilterProgram(filter, { match: 'pass', otherwise: 'drop' }).assembled.bytes
}

/** The instructions of such a program, as text. */
export function ebpfListing(code: Uint8Array): string {
  return disassemble(code)
    .map(({ index, text }) => `${`${index}`.padStart(4)}: ${text}`)
    .join('\n')
}
