// Functions of a program (BPF-to-BPF calls, 4.16): defined once, traced when first called, compiled by themselves.
import type { Fn } from './ir.js'
import { type Kind, constant } from './kinds.js'
import { programError } from './location.js'
import type { MapDefinition } from './maps.js'
import { Tracer } from './trace.js'
import { type Term, Value } from './value.js'
import { Xdp } from './xdp.js'

/** Parameters by name. */
export type Parameters = Readonly<Record<string, Kind>>

export interface FunctionDefinition<P extends Parameters = Parameters, K extends Kind = Kind> {
  readonly name: string
  readonly parameters: P
  readonly result: K
  readonly otherwise: number
  // A method, so that definitions with other parameters are assignable to this one.
  body(x: Xdp<Term<K>>, args: { readonly [N in keyof P]: Value<P[N]> }): Term<K> | undefined
}

/** What `defineFunction` takes. */
export interface FunctionOptions<P extends Parameters, K extends Kind> {
  /** A C identifier. */
  name: string
  /** At most 4, for the context comes first. */
  parameters: P
  result: K
  /** What it gives where a packet is too short for a header it looks at. Default 0. */
  otherwise?: number
}

/** Defines a function that programs can call with `x.call`. It has a stack of its own; values are copied in and out. */
export function defineFunction<const P extends Parameters, K extends Kind>(
  options: FunctionOptions<P, K>,
  body: (x: Xdp<Term<K>>, args: { readonly [N in keyof P]: Value<P[N]> }) => Term<K> | undefined,
): FunctionDefinition<P, K> {
  if (!/^[A-Za-z_]\w*$/.test(options.name)) {
    throw programError('name', `"${options.name}" is no name for a function`)
  }
  if (Object.keys(options.parameters).length > 4) {
    throw programError('parameters', `${options.name} has more than 4 parameters`)
  }
  return { otherwise: 0, ...options, body }
}

interface Traced {
  definition: FunctionDefinition
  fn: Fn | undefined
  movesPacket: boolean
}

/** What a program consists of beside its entry. */
export class Subprograms {
  readonly functions = new Map<string, Traced>()
  readonly maps = new Map<string, MapDefinition>()

  useMap(map: MapDefinition): void {
    const known = this.maps.get(map.name)
    if (known && known !== map) throw programError('map', `Two maps of this program are called "${map.name}"`)
    this.maps.set(map.name, map)
  }
}

/** Traces a function unless that has been done. */
export function traceFunction(wanted: FunctionDefinition, program: Subprograms): { movesPacket: boolean } {
  const known = program.functions.get(wanted.name)
  if (known) {
    if (known.definition !== wanted) {
      throw programError('name', `Two functions of this program are called "${wanted.name}"`)
    }
    if (!known.fn) throw programError('call', `The function "${wanted.name}" calls itself`)
    return known
  }
  const traced: Traced = { definition: wanted, fn: undefined, movesPacket: false }
  program.functions.set(wanted.name, traced)
  const kinds = Object.entries(wanted.parameters)
  const tracer = new Tracer(wanted.name, kinds.length, constant(wanted.result, wanted.otherwise))
  const x = new Xdp<Term<Kind>>(tracer, program, wanted.result)
  const args = kinds.map(([name, kind], index) => [name, new Value(tracer, kind, index + 1)] as const)
  x.finish(wanted.body(x, Object.fromEntries(args)))
  traced.fn = tracer.fn
  traced.movesPacket = tracer.movesPacket
  return traced
}
