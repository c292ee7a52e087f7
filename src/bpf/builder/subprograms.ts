// What a program consists of beside its entry: the functions it calls, each traced once, and the maps it uses.
import type { Fn } from './ir.js'
import { type Kind, constant, shown } from './kinds.js'
import { programError } from './location.js'
import type { MapDefinition } from './maps.js'
import { Tracer } from './trace.js'

/** Parameters by name. */
export type Parameters = Readonly<Record<string, Kind>>

/** A function as those see it that call it. */
export interface Callable<P extends Parameters = Parameters, K extends Kind = Kind> {
  readonly name: string
  readonly parameters: P
  readonly result: K
  /** What it gives where a packet is too short for a header it looks at. */
  readonly otherwise: number
  /** For the builder's own use: writes what it does. */
  readonly write: (tracer: Tracer, program: Subprograms) => void
}

interface Traced {
  definition: Callable
  fn: Fn | undefined
  movesPacket: boolean
}

/** The functions and maps of a program. */
export class Subprograms {
  readonly functions = new Map<string, Traced>()
  readonly maps = new Map<string, MapDefinition>()

  useMap(map: MapDefinition): void {
    const known = this.maps.get(map.name)
    if (known && known !== map) throw programError('map', `Two maps of this program are called "${map.name}"`)
    this.maps.set(map.name, map)
  }

  /** Traces a function unless that has been done. */
  use(wanted: Callable): { movesPacket: boolean } {
    const given: unknown = wanted
    if (typeof given !== 'object' || given === null || !('write' in given)) {
      throw programError(
        'call',
        `${shown(given)} is no function of a program`,
        'Use what defineFunction gives.',
      )
    }
    const known = this.functions.get(wanted.name)
    if (known) {
      if (known.definition !== wanted) {
        throw programError('name', `Two functions of this program are called "${wanted.name}"`)
      }
      if (!known.fn) throw programError('call', `The function "${wanted.name}" calls itself`)
      return known
    }
    const traced: Traced = { definition: wanted, fn: undefined, movesPacket: false }
    this.functions.set(wanted.name, traced)
    const parameters = Object.keys(wanted.parameters).length
    const tracer = new Tracer(wanted.name, parameters, constant(wanted.result, wanted.otherwise))
    wanted.write(tracer, this)
    traced.fn = tracer.fn
    traced.movesPacket = tracer.movesPacket
    return traced
  }
}
