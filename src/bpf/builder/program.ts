// XDP programs from definition to kernel: trace, compile, make the maps, load.
import { OptionError, UnsupportedError } from '../../kernel/errors.js'
import { kernelAtLeast } from '../../kernel/version.js'
import type { Code, MapHandle } from '../asm.js'
import { type AssembledProgram, assemble } from '../assembler.js'
import type { Verdict } from '../constants.js'
import type { LoadOptions } from '../load.js'
import { BtfError } from '../btf/index.js'
import { takesFrags } from '../features.js'
import { requireForm } from '../map-fit.js'
import { BpfProgram } from '../program.js'
import { compile } from './compile.js'
import type { Fn } from './ir.js'
import { type MapDefinition, type MapOf, createMap, formOf } from './maps.js'
import { Subprograms } from './subprograms.js'
import { Tracer } from './trace.js'
import { type LoadedTypes, type Signature, loadTypes } from './types.js'
import { type Outcome, type XdpResult, verdictNumber } from './results.js'
import { Xdp } from './xdp.js'

/** What a program is built with. */
export interface XdpOptions {
  /** What it returns where its body does not say: at the end, and for packets too short or malformed for a header it looks at. Default `pass`. */
  otherwise?: Verdict
  /**
   * It can take packets in several buffers, as jumbo frames come, and is loaded so where the kernel has it (5.18); such a packet
   * never gets to other programs, nor do these attach where the MTU is that large. Headers and `packet.length` are then those of
   * the first buffer: `packet.fullLength` and `x.loadBytes` reach the rest. Default false.
   */
  frags?: boolean
}

/** What it is loaded with. */
export interface XdpLoadOptions extends Omit<LoadOptions, 'type' | 'code' | 'maps' | 'name'> {
  /**
   * Maps of yours in the place of declared ones, by name: of the same type and sizes of keys and values, else `OptionError`. Where
   * packets are redirected through one, another type of such maps will do. The others are made.
   */
  maps?: Readonly<Record<string, MapHandle>>
}

/**
 * Builds an XDP program. `body` runs once, now: what it calls on `x` becomes the program. Throws `OptionError`, with the line, for
 * what cannot be a program.
 *
 *   const program = defineXdp('only_ping', (x) => {
 *     const eth = x.packet.ethernet()
 *     x.if(eth.type.eq(ETH_P_IP), () => {
 *       x.if(eth.ipv4().protocol.eq(IPPROTO_ICMP), () => 'pass')
 *     })
 *     return 'drop'
 *   })
 */
export function defineXdp(name: string, body: (x: Xdp) => Outcome<XdpResult>): XdpDefinition
export function defineXdp(
  name: string,
  options: XdpOptions,
  body: (x: Xdp) => Outcome<XdpResult>,
): XdpDefinition
export function defineXdp(
  name: string,
  ...rest:
    [body: (x: Xdp) => Outcome<XdpResult>] | [options: XdpOptions, body: (x: Xdp) => Outcome<XdpResult>]
): XdpDefinition {
  const [options, body] = rest.length === 2 ? rest : [{} as XdpOptions, rest[0]]
  const { functions, signatures, maps } = traceXdp(name, options, body)
  return new XdpDefinition(name, compile(functions), signatures, maps, { options, body })
}

/** The program as the compiler gets it: the functions as they were written, the entry first. */
export function traceXdp(
  name: string,
  options: XdpOptions,
  body: (x: Xdp) => Outcome<XdpResult>,
): { functions: Fn[]; signatures: Signature[]; maps: ReadonlyMap<string, MapDefinition> } {
  const subprograms = new Subprograms()
  const tracer = new Tracer(name, 0, verdictNumber(options.otherwise ?? 'pass'))
  const x = new Xdp(tracer, subprograms)
  x.finish(body(x))
  const called = [...subprograms.functions.values()]
  return {
    functions: [tracer.fn, ...called.map(({ fn }) => fn!)],
    signatures: called.map(({ definition }) => definition),
    maps: subprograms.maps,
  }
}

/** What a program was built from. */
interface XdpSource {
  readonly options: XdpOptions
  readonly body: (x: Xdp) => Outcome<XdpResult>
}

/** A program that is built but not loaded. */
export class XdpDefinition {
  readonly name: string
  /** The maps it uses. */
  readonly maps: ReadonlyMap<string, MapDefinition>
  /** The instructions, with the line that each comes from. */
  readonly code: Code
  /** Whether it can take packets in several buffers. */
  readonly frags: boolean
  readonly #signatures: readonly Signature[]
  readonly #source: XdpSource
  #assembled: AssembledProgram | undefined

  /** Made by `defineXdp`. */
  constructor(
    name: string,
    code: Code,
    signatures: readonly Signature[],
    maps: ReadonlyMap<string, MapDefinition>,
    source: XdpSource,
  ) {
    this.name = name
    this.frags = source.options.frags ?? false
    this.#source = source
    this.#signatures = signatures
    this.maps = maps
    this.code = code
  }

  /** The program as bytes. Where a jump must reach over more than 32767 instructions they are for kernel 6.6 and later. */
  get assembled(): AssembledProgram {
    return (this.#assembled ??= assemble(this.code, { farJumps: 'long' }))
  }

  /**
   * Whether this kernel is told so when the program is loaded. Another program over the same map of devices or processors must
   * agree in it (kernel/bpf/core.c: __bpf_prog_map_compatible).
   */
  get loadsWithFrags(): boolean {
    return this.frags && takesFrags()
  }

  /**
   * The same program with something in front: `front` comes first, and the program goes on as before where that does not return.
   * The program's body runs once more for it.
   */
  behind(front: (x: Xdp) => void): XdpDefinition {
    const { options, body } = this.#source
    return defineXdp(this.name, options, (x) => {
      front(x)
      return body(x)
    })
  }

  /**
   * Makes its maps and loads it. The caller closes what comes back. Throws `VerifierError`, with the TypeScript line, when the
   * kernel rejects it; `UnsupportedError` where it is so long that this kernel has no jumps for it.
   */
  load(options: XdpLoadOptions = {}): LoadedXdp {
    const { maps: given = {}, ...rest } = options
    const stranger = Object.keys(given).find((name) => !this.maps.has(name))
    if (stranger !== undefined) {
      throw new OptionError('maps', `The program "${this.name}" has no map "${stranger}"`)
    }
    if (this.assembled.hasLongJumps && !kernelAtLeast(6, 6)) {
      throw new UnsupportedError(
        `The program "${this.name}" jumps over more than 32767 instructions, which needs kernel 6.6`,
        'Make it smaller: look for long lists in a map, as the shipped program `acl` does.',
      )
    }
    for (const [name, definition] of this.maps) {
      if (Object.hasOwn(given, name)) requireForm(name, formOf(definition), given[name], `"${this.name}"`)
    }
    const made = new Map<string, MapOf<MapDefinition>>()
    const types = this.#loadTypes()
    try {
      for (const [name, definition] of this.maps) {
        if (!Object.hasOwn(given, name)) made.set(name, createMap(definition, types?.maps.get(name)))
      }
      const program = BpfProgram.load({
        ...(types && { btf: types.program }),
        ...(this.frags && { frags: this.loadsWithFrags }),
        ...rest,
        type: 'xdp',
        name: this.name,
        code: this.assembled,
        maps: { ...given, ...Object.fromEntries(made) },
      })
      return new LoadedXdp(program, made)
    } catch (error) {
      made.forEach((map) => map.close())
      throw error
    } finally {
      types?.handle.close()
    }
  }

  // A kernel without types for programs (before 5.0, or built without) runs the program as well; lines are then known here only.
  #loadTypes(): LoadedTypes | undefined {
    try {
      return loadTypes(this.assembled, this.#signatures, this.maps)
    } catch (error) {
      if (error instanceof BtfError) return undefined
      throw error
    }
  }
}

/** A loaded program with the maps that were made for it. */
export class LoadedXdp {
  readonly program: BpfProgram
  readonly #maps: ReadonlyMap<string, MapOf<MapDefinition>>

  constructor(program: BpfProgram, maps: ReadonlyMap<string, MapOf<MapDefinition>>) {
    this.program = program
    this.#maps = maps
  }

  /** The map that was made for a definition. Throws `OptionError` when it was handed in, or is another program's. */
  map<D extends MapDefinition>(definition: D): MapOf<D> {
    const map = this.#maps.get(definition.name)
    if (!map) throw new OptionError('map', `No map "${definition.name}" was made for "${this.program.name}"`)
    return map as unknown as MapOf<D>
  }

  /** Lets go of the program and its maps: they live on while attached. */
  close(): void {
    this.program.close()
    this.#maps.forEach((map) => map.close())
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
