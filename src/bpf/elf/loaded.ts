// An object in the kernel: its programs, its maps, and its global variables while programs run.
import { NotFoundError, OptionError, StateError } from '../../kernel/errors.js'
import type { MappedRegion } from '../../kernel/memory.js'
import type { BtfError } from '../btf/types.js'
import type { BpfMap } from '../map.js'
import type { BpfProgram } from '../program.js'
import type { GlobalPlace, ObjectContents } from './contents.js'

/** A loaded object: owns its programs and the maps it made. */
export class LoadedObject {
  /** By the function's name. */
  readonly programs: ReadonlyMap<string, BpfProgram>
  /** By name, those that were handed in too. Keys and values are as their C types say. */
  readonly maps: ReadonlyMap<string, BpfMap>
  /** Why the kernel refused the object's types, when it did: programs and maps then have none. */
  readonly btfProblem: BtfError | undefined
  readonly #owned: readonly BpfMap[]
  readonly #globals: ObjectContents['globals']
  readonly #regions = new Map<string, MappedRegion>()
  #isClosed = false

  constructor(
    programs: ReadonlyMap<string, BpfProgram>,
    maps: ReadonlyMap<string, BpfMap>,
    owned: readonly BpfMap[],
    globals: ObjectContents['globals'],
    btfProblem: BtfError | undefined,
  ) {
    this.programs = programs
    this.maps = maps
    this.btfProblem = btfProblem
    this.#owned = owned
    this.#globals = globals
  }

  /** A program by the name of its function. Throws `NotFoundError`. */
  program(name: string): BpfProgram {
    return this.programs.get(name) ?? notThere('program', name, this.programs)
  }

  /** A map by name. Throws `NotFoundError`. */
  map(name: string): BpfMap {
    return this.maps.get(name) ?? notThere('map', name, this.maps)
  }

  /** What a global variable holds now. Kernel 5.5. Throws `NotFoundError`. */
  readGlobal(name: string): unknown {
    const { view, place } = this.#place(name)
    return place.codec.decode(view, place.offset)
  }

  /** Writes a global variable while programs run. Kernel 5.5. Throws `NotFoundError`, `OptionError` for constants. */
  writeGlobal(name: string, value: unknown): void {
    const { view, place } = this.#place(name)
    if (place.isConstant) {
      throw new OptionError('name', `"${name}" is a constant`, 'Set it before loading, with setGlobal.')
    }
    place.codec.encode(view, place.offset, value)
  }

  /**
   * Lets go of the programs and of the maps that were made for them. What is attached or pinned stays, but for what program arrays
   * hold: the kernel empties one that nobody has open or pinned, though a program uses it (kernel/bpf/arraymap.c:
   * bpf_fd_array_map_clear). Pin such a map where the attachment is to stay.
   */
  close(): void {
    this.#isClosed = true
    for (const region of this.#regions.values()) region.close()
    for (const program of this.programs.values()) program.close()
    for (const map of this.#owned) map.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #place(name: string): { view: DataView; place: GlobalPlace } {
    if (this.#isClosed) throw new StateError('The loaded object is closed')
    const place = this.#globals.get(name)
    const map = place && this.maps.get(place.map.name)
    if (!map) return notThere('variable', name, this.#globals)
    let region = this.#regions.get(map.name)
    if (!region) this.#regions.set(map.name, (region = map.mmap({ writable: !place.isConstant })))
    return { view: new DataView(region.buffer), place }
  }
}

function notThere(what: string, name: string, there: ReadonlyMap<string, unknown>): never {
  const names = [...there.keys()].join(', ')
  throw new NotFoundError(`The loaded object has no ${what} "${name}"`, names && `It has: ${names}.`)
}
