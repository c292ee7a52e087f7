// Functions of a program (BPF-to-BPF calls, 4.16): defined once, traced when first called, compiled by themselves.
import type { Kind } from './kinds.js'
import { programError } from './location.js'
import type { Callable, Parameters } from './subprograms.js'
import { type Term, Value } from './value.js'
import { Xdp } from './xdp.js'

/** A function that programs can call with `x.call`. Made by `defineFunction`. */
export interface FunctionDefinition<
  P extends Parameters = Parameters,
  K extends Kind = Kind,
> extends Callable<P, K> {
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
  return {
    otherwise: 0,
    ...options,
    body,
    write: (tracer, program) => {
      const x = new Xdp<Term<K>>(tracer, program, options.result)
      const kinds = Object.entries(options.parameters)
      const args = kinds.map(([name, kind], index) => [name, new Value(tracer, kind, index + 1)] as const)
      x.finish(body(x, Object.fromEntries(args) as { readonly [N in keyof P]: Value<P[N]> }))
    },
  }
}
