// Filters in XDP programs: in front, as a condition, or alone.
import type { Verdict } from '../bpf/constants.js'
import { type Condition, Value, type Xdp, type XdpDefinition, defineXdp } from '../bpf/builder/index.js'
import { disassemble } from '../bpf/disassemble.js'
import { withoutLocations } from '../bpf/builder/location.js'
import type { VariableKey } from '../bpf/builder/trace.js'
import type { FilterCode } from './linear.js'
import { Translation, type FilterLength } from './translate.js'

/**
 * Whether the packet matches, for use in a program: `x.if(matchFilter(x, filter), …)`. The filter's code is put here, and runs
 * here.
 *
 * It looks at what lies in the packet's first buffer, as all of a program does that was not loaded for several buffers; a test
 * that would look beyond its end fails the packet, and `len` is that buffer's length.
 */
export function matchFilter<R>(x: Xdp<R>, filter: FilterCode): Condition {
  const { tracer } = x
  return withoutLocations(() => {
    const key: VariableKey = { name: 'match' }
    const [matched, rejected] = new Translation(tracer, filter.program).run()
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
 * hook by which a program takes a filter in front. `length` is what `len` means.
 */
export function requireMatch(
  x: Xdp,
  filter: FilterCode | undefined,
  verdict: Verdict = 'pass',
  length: FilterLength = 'first buffer',
): void {
  if (!filter) return
  const { tracer } = x
  withoutLocations(() => {
    const [matched, rejected] = new Translation(tracer, filter.program, length).run()
    tracer.moveTo(rejected)
    x.return(verdict)
    tracer.moveTo(matched)
  })
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
