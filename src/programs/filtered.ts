// Any program with a filter in front, and changing that filter while packets come.
import type { BpfMap, BpfProgram, Verdict, XdpAttachment } from '../bpf/index.js'
import type { LoadedXdp, XdpDefinition, XdpLoadOptions } from '../bpf/builder/index.js'
import { type Filter, requireMatch } from '../filter/index.js'
import { OptionError } from '../kernel/index.js'

/**
 * ```
 * packet ─┬─ matches the filter ─→ the program, as it was
 *         └─ does not ───────────→ `otherwise`, by default pass: as if the program were not there
 * ```
 *
 * The filter sees the packet's first buffer, and the packet as it arrived. Without a filter the program is what it was.
 */
export function defineFiltered(
  definition: XdpDefinition,
  filter: Filter | undefined,
  otherwise: Verdict = 'pass',
): XdpDefinition {
  return filter ? definition.behind((x) => requireMatch(x, filter, otherwise)) : definition
}

/** How a program with a filter is loaded. */
export interface FilteredOptions extends XdpLoadOptions {
  /** What becomes of packets that do not match. Default `pass`. */
  otherwise?: Verdict
}

/**
 * A loaded program whose filter can be changed while it runs: each filter is a program of its own, all over the same maps, so that
 * counts, rules and sockets stay. The kernel exchanges them in one step: every packet is judged by the filter before or by the
 * one after. One whose map of sockets is "xsks_map" can be an `XdpGroup`'s program.
 */
export class FilteredProgram {
  /** The program as it was loaded first, with the maps that all that follow use too. */
  readonly loaded: LoadedXdp
  readonly #definition: XdpDefinition
  readonly #options: FilteredOptions
  #filter: Filter | undefined
  #program: BpfProgram

  private constructor(definition: XdpDefinition, filter: Filter | undefined, options: FilteredOptions) {
    const { otherwise, ...rest } = options
    this.#definition = definition
    this.#options = options
    this.#filter = filter
    this.loaded = defineFiltered(definition, filter, otherwise).load(rest)
    this.#program = this.loaded.program
  }

  /** Loads a program with its first filter; undefined: every packet gets to it. Throws as `XdpDefinition.load` does. */
  static load(
    definition: XdpDefinition,
    filter: Filter | undefined,
    options: FilteredOptions = {},
  ): FilteredProgram {
    return new FilteredProgram(definition, filter, options)
  }

  /** The program with the filter of now: what to attach. Another one after each change. */
  get program(): BpfProgram {
    return this.#program
  }

  /** The filter of now; undefined: every packet gets to the program. */
  get filter(): Filter | undefined {
    return this.#filter
  }

  /** The map of sockets by queue. Throws `OptionError` for a program that gives none to sockets. */
  get sockets(): BpfMap<number, number> {
    const definition = this.#definition.maps.get('xsks_map')
    if (definition?.type !== 'xskmap') {
      throw new OptionError('program', `The program "${this.#definition.name}" has no map of sockets`)
    }
    return this.loaded.map(definition) as unknown as BpfMap<number, number>
  }

  /**
   * Loads the program with another filter, and puts it in the place of this one wherever that is attached. When it throws
   * (`VerifierError`; `KernelError` when somebody else has replaced the program) the old filter is in force everywhere.
   */
  change(filter: Filter | undefined, attachments: XdpAttachment | readonly XdpAttachment[]): void {
    const { otherwise, maps: given = {}, ...rest } = this.#options
    const made = [...this.#definition.maps].filter(([name]) => !Object.hasOwn(given, name))
    const maps = Object.fromEntries(made.map(([name, map]) => [name, this.loaded.map(map)]))
    const definition = defineFiltered(this.#definition, filter, otherwise)
    const { program } = definition.load({ ...rest, maps: { ...given, ...maps } })
    const old = this.#program
    const done: XdpAttachment[] = []
    try {
      for (const attachment of 'update' in attachments ? [attachments] : attachments) {
        attachment.update(program)
        done.push(attachment)
      }
    } catch (error) {
      for (const attachment of done) attachment.update(old)
      program.close()
      throw error
    }
    this.#program = program
    this.#filter = filter
    if (old !== this.loaded.program) old.close()
  }

  /** Lets go of the program and its maps: they live on while attached. */
  close(): void {
    this.#program.close()
    this.loaded.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
