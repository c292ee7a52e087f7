// Loads an object: its BTF, its maps with their first elements, its programs.
import { OptionError } from '../../kernel/errors.js'
import { loadBtf, loadedBtf } from '../btf/load.js'
import { BtfError } from '../btf/types.js'
import { kernelBtf } from '../btf/vmlinux.js'
import { Attr, PROG_BIND_MAP } from '../attr.js'
import { bpf } from '../syscall.js'
import type { AssembledProgram } from '../assembler.js'
import type { ProgramType } from '../constants.js'
import { programInfo } from '../info.js'
import type { BpfMap } from '../map.js'
import { requireForm } from '../map-fit.js'
import type { LogLevel } from '../load.js'
import { unpin } from '../pin.js'
import { BpfProgram } from '../program.js'
import { VerifierError } from '../verifier.js'
import { CoreRelocator, type Poisoned } from './core.js'
import { ElfError, printable } from './error.js'
import { resolveExterns } from './externs.js'
import { type LinkedProgram, linkProgram } from './link.js'
import { type MapBtf, createObjectMap, fillObjectMap, openPinnedMap, pinPath } from './load-maps.js'
import type { ObjectContents } from './contents.js'
import { objectBtf } from './object-btf.js'
import { LoadedObject } from './loaded.js'
import { type LoadedTypes, programTypes, sourceLines } from './load-records.js'
import { targetOfSection } from './sections.js'
import { select } from './select.js'

/** How to load an object. */
export interface LoadObjectOptions {
  /** Maps to use instead of making those of these names. They must be of the same type and sizes of keys and values, and stay the caller's. */
  maps?: Readonly<Record<string, BpfMap>>
  /**
   * Load only these, by the name of the section or of the function, and the programs that their program arrays name. Maps that they
   * do not use are not made.
   */
  only?: string | readonly string[]
  /** The type of programs whose section says nothing. */
  type?: ProgramType
  /** What a program of type `ext` replaces, or one of type `tracing` watches, when that is a function of another BPF program. */
  attachTo?: { program: { readonly fd: number }; function: string }
  /**
   * Where maps with LIBBPF_PIN_BY_NAME are pinned, and found when they are pinned already. Default /sys/fs/bpf. False makes such
   * maps anew and pins none, as for a load that only tries.
   */
  pinFolder?: string | false
  /** XDP: tied to this device (its index), so that programs may call its metadata kfuncs (6.3). */
  boundTo?: number
  /** XDP: handles packets in several buffers, whatever the section says. */
  frags?: boolean
  /** Asks for the verifier's log of accepted programs too. */
  log?: LogLevel
}

/** Loads an object; on failure nothing stays open. */
export function loadObject(contents: ObjectContents, options: LoadObjectOptions): LoadedObject {
  return new Loading(contents, options).load()
}

interface Entry {
  name: string
  section: string
  linked: LinkedProgram
  poisoned: Poisoned
}

class Loading {
  readonly #contents: ObjectContents
  readonly #options: LoadObjectOptions
  readonly #programs = new Map<string, BpfProgram>()
  readonly #maps = new Map<string, BpfMap>()
  readonly #owned: BpfMap[] = []
  // Made here, and to be pinned when all has gone well.
  readonly #unpinned: { map: BpfMap; path: string }[] = []
  #btf: LoadedTypes | undefined
  #btfProblem: BtfError | undefined

  constructor(contents: ObjectContents, options: LoadObjectOptions) {
    this.#contents = contents
    this.#options = options
  }

  load(): LoadedObject {
    const { globals, btf } = this.#contents
    const { only, maps: given = {} } = this.#options
    try {
      const relocator = btf && new CoreRelocator(btf, kernelBtf)
      const selected = select(this.#contents, only, given, (name) => this.#link(name, relocator))
      this.#loadTypes()
      this.#makeMaps(selected.maps)
      for (const entry of selected.programs.values()) this.#programs.set(entry.name, this.#loadProgram(entry))
      for (const spec of this.#contents.maps) {
        const map = this.#maps.get(spec.name)
        const isOwn = map !== undefined && this.#owned.includes(map)
        if (isOwn) fillObjectMap(spec, map, { maps: this.#maps, programs: this.#programs })
      }
      this.#pinMaps()
      return new LoadedObject(this.#programs, this.#maps, this.#owned, globals, this.#btfProblem)
    } catch (error) {
      for (const object of [...this.#programs.values(), ...this.#owned]) object.close()
      throw error
    } finally {
      this.#btf?.handle.close()
    }
  }

  /** A program with CO-RE and externs resolved: everything that needs no descriptor. */
  #link(name: string, relocator: CoreRelocator | undefined): Entry {
    const { entries, btf } = this.#contents
    const { function: fn } = entries.get(name)!
    const linked = linkProgram(this.#contents, fn)
    requireTypes(linked)
    const poisoned: Poisoned = new Map([
      ...(relocator?.relocate(linked.bytes, linked.relocations, name) ?? []),
      ...resolveExterns(linked, btf, kernelBtf),
    ])
    return { name, section: fn.section.name, linked, poisoned }
  }

  #pinMaps(): void {
    const done: string[] = []
    try {
      for (const { map, path } of this.#unpinned) {
        map.pin(path)
        done.push(path)
      }
    } catch (error) {
      for (const path of done) unpin(path)
      throw error
    }
  }

  #loadTypes(): void {
    const { btf, file, ext } = this.#contents
    if (!btf) return
    const strings = [...ext.values()].flatMap(({ lines }) => lines.flatMap(({ file, text }) => [file, text]))
    const object = objectBtf(btf, file, strings)
    try {
      this.#btf = { handle: loadBtf(object.bytes), object }
    } catch (error) {
      // An older kernel, or a newer compiler: programs load without types as well, unless they need them.
      if (!(error instanceof BtfError)) throw error
      this.#btfProblem = error
    }
  }

  #makeMaps(used: ReadonlySet<string>): void {
    const { maps: specs, name: object } = this.#contents
    const given = this.#options.maps ?? {}
    for (const name of Object.keys(given)) {
      if (specs.some((spec) => spec.name === name)) continue
      const there = specs.map((spec) => spec.name).join(', ')
      throw new OptionError(
        'maps',
        `The object "${object}" has no map "${name}"`,
        there && `It has: ${there}.`,
      )
    }
    const types: MapBtf | undefined = this.#btf && { fd: this.#btf.handle.fd }
    for (const spec of specs) {
      if (!used.has(spec.name)) continue
      const handed = Object.hasOwn(given, spec.name) ? given[spec.name] : undefined
      if (handed) {
        requireForm(spec.name, spec, handed, 'the object')
        this.#maps.set(spec.name, handed)
        continue
      }
      const path = pinPath(spec, this.#options.pinFolder)
      const pinned = path === undefined ? undefined : openPinnedMap(this.#contents, spec, path)
      const map = pinned ?? createObjectMap(this.#contents, spec, types)
      if (path !== undefined && !pinned) this.#unpinned.push({ map, path })
      this.#owned.push(map)
      this.#maps.set(spec.name, map)
    }
  }

  #loadProgram({ name, section, linked, poisoned }: Entry): BpfProgram {
    const { entries, license } = this.#contents
    const { log, boundTo, frags } = this.#options
    const kind = entries.get(name)!.kind
    const type = kind?.type ?? this.#options.type
    if (!type) {
      throw new ElfError(
        'The name of the section does not say what type of program it holds',
        { section, symbol: name },
        'Pass the type.',
      )
    }
    const btf = this.#btf && programTypes(linked, this.#btf)
    try {
      const program = BpfProgram.load({
        type,
        name,
        license,
        code: this.#assembled(linked),
        ...(kind?.attachType && { attachType: kind.attachType }),
        ...(kind?.expectedAttach !== undefined && { expectedAttach: kind.expectedAttach }),
        ...(kind?.sleepable && { sleepable: true }),
        ...(type === 'xdp' && (frags ?? kind?.frags) && { frags: true }),
        ...(type === 'xdp' && boundTo !== undefined && { boundTo }),
        ...(kind?.attachesTo !== undefined && { attachTo: this.#target(kind.attachesTo, section, name) }),
        ...(btf && { btf }),
        ...(log && { log }),
      })
      this.#bindConstants(program)
      return program
    } catch (error) {
      throw explain(error, poisoned, { section, symbol: name })
    }
  }

  /** Constants belong to every program of the object, used or not: bpftool looks for metadata there (5.10, or not at all). */
  #bindConstants(program: BpfProgram): void {
    for (const { role, name } of this.#contents.maps) {
      const map = role === 'rodata' ? this.#maps.get(name) : undefined
      if (map) bpf('PROG_BIND_MAP', new Attr(PROG_BIND_MAP, { prog_fd: program.fd, map_fd: map.fd }))
    }
  }

  #assembled(linked: LinkedProgram): AssembledProgram {
    return {
      bytes: linked.bytes,
      references: linked.maps.map(({ index, map }) => ({
        index,
        map: this.#maps.get(map.name)!,
        kind: map.role === 'map' ? 'map' : 'value',
      })),
      functions: linked.functions.map(({ index, function: fn }) => ({ name: fn.name, index })),
      lines: sourceLines(linked, this.#contents.btf),
      labels: new Map(),
    }
  }

  /** What a tracing or replacing program attaches to, by its id. */
  #target(prefix: string, section: string, symbol: string): { btfId: number; programFd?: number } {
    const { attachTo } = this.#options
    const place = { section, symbol }
    if (attachTo) {
      const { btfId } = programInfo(attachTo.program.fd)
      const id = btfId === 0 ? undefined : loadedBtf(btfId)?.find(attachTo.function, 'func')
      if (id === undefined) {
        throw new ElfError(
          `The program to attach to has no function "${attachTo.function}" in its BTF`,
          place,
        )
      }
      return { btfId: id, programFd: attachTo.program.fd }
    }
    const target = targetOfSection(section)
    if (target === undefined || prefix === '') {
      const id = target === undefined ? undefined : kernelBtf().find(target, 'func')
      if (id !== undefined) return { btfId: id }
      throw new ElfError(
        'What the program attaches to is not known',
        place,
        'Pass attachTo, or name a function of the kernel.',
      )
    }
    const name = `${prefix}${target}`
    const id = kernelBtf().find(name, prefix === 'btf_trace_' ? 'typedef' : 'func')
    if (id === undefined) throw new ElfError(`This kernel has no "${name}" to attach to`, place)
    return { btfId: id }
  }
}

/** A function whose address is taken needs a record of its type, as then all of them do (check_ld_imm of kernel/bpf/verifier.c). */
function requireTypes({ addresses, functions }: LinkedProgram): void {
  const untyped = functions.find(({ type }) => type === undefined)?.function
  if (addresses.length === 0 || !untyped) return
  const program = functions[0].function
  throw new ElfError(
    `The program hands on the address of "${printable(addresses[0].name)}", for which functions need their types; ` +
      `"${printable(untyped.name)}" has none (no BTF)`,
    { section: program.section.name, symbol: program.name },
    'Compile with -g; strip with `llvm-strip -g`, which keeps .BTF.',
  )
}

/** A verifier that met a poisoned instruction says "unknown function"; what it means is that the kernel lacks something. */
function explain(error: unknown, poisoned: Poisoned, place: { section: string; symbol: string }): unknown {
  const missing =
    error instanceof VerifierError && error.instruction !== undefined
      ? poisoned.get(error.instruction)
      : undefined
  if (missing === undefined) return error
  return new ElfError(
    `The program needs ${missing}, which this kernel does not have`,
    place,
    'Guard it with bpf_core_field_exists(), bpf_core_type_exists(), bpf_core_enum_value_exists() or bpf_ksym_exists().',
    { cause: error },
  )
}
