// The program that a command line names: a shipped one, or one of an object file made by clang.
import { basename } from 'node:path'
import {
  BpfObject,
  type AssembledProgram,
  type BpfMap,
  type BpfProgram,
  type ObjectProgram,
} from '../bpf/index.js'
import { printable } from '../bpf/elf/error.js'
import { dataName } from '../bpf/elf/load-maps.js'
import { sourceLines } from '../bpf/elf/load-records.js'
import { OptionError, UnsupportedError } from '../kernel/index.js'
import { shippedPrograms, type ShippedProgram } from '../programs/index.js'
import { givenSettings, setVariables, type ProgramFlags } from './program-options.js'

/** A loaded program, to attach or pin and then to let go of. */
export interface LoadedProgram {
  readonly program: BpfProgram
  /** By name: those it uses, and what is called from it; without the global variables of an object. */
  readonly maps: ReadonlyMap<string, BpfMap>
  /** The maps of an object's global variables, by the names that libbpf pins them by: `filter.bss`. */
  readonly variables: ReadonlyMap<string, BpfMap>
  close(): void
}

/** What loading may need to know. */
export interface LoadShape {
  /** The most queues the device can ever have: the size of a shipped program's map of sockets. */
  queues: number
  /** Only to see whether it loads: maps that an object wants pinned are made anew and not pinned. */
  isTrial?: boolean
}

/** A program that is found but not loaded. */
export interface ChosenProgram {
  /** Of the function, in full. */
  readonly name: string
  /** The same with where it is from: `"filter" of filter.o`. */
  readonly title: string
  /** Meant for an interface; programs for the entries of a devmap or cpumap are not. */
  readonly isForInterface: boolean
  /** What is to be loaded, with maps by name. Asks the kernel nothing. */
  readonly code: () => Pick<AssembledProgram, 'bytes' | 'functions' | 'lines'> & ProgramNames
  /**
   * Makes its maps and loads it. `queues`, the most queues the device can ever have, is the size of a shipped program's
   * map of sockets; default 1. Throws `VerifierError`, `KernelError`, for objects `ElfError` too.
   */
  readonly load: (shape?: LoadShape) => LoadedProgram
}

/** What the code refers to, by slot. */
export interface ProgramNames {
  /**
   * `isValue`: the load is of the address of its value, as for the global variables of an object. `type` is as it was declared;
   * undefined for one that is not known here.
   */
  readonly maps: ReadonlyMap<number, { name: string; isValue: boolean; type: string | undefined }>
  /** Functions and addresses of the kernel. */
  readonly externs: ReadonlyMap<number, string>
}

/** Room for the longest name of a program, and two spaces. */
export const NAME_WIDTH = Math.max(...[...shippedPrograms.keys()].map((name) => name.length)) + 1

/** One line a shipped program, for a help text. */
export function programHelp(): string {
  const shipped = [...shippedPrograms].map(([name, { summary }]) => `  ${name.padEnd(NAME_WIDTH)} ${summary}`)
  return (
    `\nPrograms:\n${shipped.join('\n')}\n  ${'<file.o>'.padEnd(NAME_WIDTH)} one of an object file made by clang\n\n` +
    'What can be set of a shipped program is in `xdp programs <name>`; of an object, its global variables.'
  )
}

/**
 * Finds a program: a path (with a slash, or ending in .o) is an object file, anything else a shipped program's name.
 * `section` says which program of an object: its section or its function; `set` what is set of it; `filter` what is to stand in
 * front of a shipped one.
 * Throws `OptionError` for a name there is no program of, for a choice that is not one, and for settings that cannot be; `FilterError`;
 * `UnsupportedError` for programs other than XDP; for files `NotFoundError`, `ElfError`, `BtfError`.
 */
export function chooseProgram(choice: string, flags: ProgramFlags = {}): ChosenProgram {
  const isPath = choice.includes('/') || choice.endsWith('.o')
  return isPath ? fromObject(choice, flags) : fromShipped(choice, flags)
}

/** A shipped program by its name. Throws `OptionError` for one that is not there. */
export function shippedProgram(name: string): ShippedProgram {
  const shipped = shippedPrograms.get(name)
  if (shipped) return shipped
  const known = [...shippedPrograms.keys()].join(', ')
  throw new OptionError(
    'program',
    `There is no program "${name}"`,
    `Name one of the shipped programs (${known}) or an object file, as in ./${name}.`,
  )
}

function fromShipped(choice: string, { section, set = [], filter }: ProgramFlags): ChosenProgram {
  const shipped = shippedProgram(choice)
  if (section !== undefined) {
    throw new OptionError(
      'section',
      `"${choice}" is a shipped program and has no sections`,
      'Leave --section out.',
    )
  }
  if (filter !== undefined && !Object.hasOwn(shipped.settings ?? {}, 'filter')) {
    throw new OptionError(
      'filter',
      `The program "${choice}" takes no filter`,
      'It does the same with every packet that a filter would keep from it.',
    )
  }
  const withFilter = filter === undefined ? set : [...set, { name: 'filter', value: filter }]
  const given = givenSettings(choice, shipped, withFilter)
  // What was set is judged here, before anything is asked of the kernel.
  const { name, assembled, maps: declared } = shipped.define(given, { queues: 1 }).definition
  return {
    name,
    title: `"${name}"`,
    isForInterface: true,
    code: () => {
      const { bytes, functions, lines, references } = assembled
      const maps = references.map(({ index, map, kind }) => {
        const called = typeof map === 'string' ? map : map.name
        return [index, { name: called, isValue: kind === 'value', type: declared.get(called)?.type }] as const
      })
      return {
        bytes,
        functions: functions.map((fn) => (fn.index === 0 ? { ...fn, name } : fn)),
        lines,
        maps: new Map(maps),
        externs: new Map(),
      }
    },
    load: (shape = { queues: 1 }) => {
      const { definition, fill } = shipped.define(given, shape)
      const loaded = definition.load()
      try {
        fill?.(loaded)
        const maps = [...definition.maps].map(([name, map]) => [name, loaded.map(map) as BpfMap] as const)
        const { program } = loaded
        return { program, maps: new Map(maps), variables: new Map(), close: () => loaded.close() }
      } catch (error) {
        loaded.close()
        throw error
      }
    },
  }
}

function fromObject(path: string, { section, set = [], filter }: ProgramFlags): ChosenProgram {
  if (filter !== undefined) {
    throw new OptionError(
      'filter',
      `No filter can be put in front of a program that is compiled already, as in ${path}`,
      'Name a shipped program, or leave the filter out.',
    )
  }
  const object = BpfObject.open(path)
  setVariables(object, set)
  const { name, attachType } = choose(object, section)
  return {
    name,
    title: `"${printable(name)}" of ${basename(path)}`,
    isForInterface: attachType === 'xdp',
    code: () => {
      const linked = object.link(name)
      const maps = linked.maps.map(({ index, map }) => {
        return [index, { name: map.name, isValue: map.role !== 'map', type: map.type }] as const
      })
      return {
        bytes: linked.bytes,
        functions: linked.functions.map(({ index, function: fn }) => ({ index, name: fn.name })),
        lines: sourceLines(linked, object.btf),
        maps: new Map(maps),
        externs: new Map(linked.externs.map(({ index, symbol }) => [index, symbol.name])),
      }
    },
    load: ({ isTrial = false } = { queues: 1 }) => {
      const loaded = object.load({ only: name, ...(isTrial ? { pinFolder: false } : {}) })
      const sections = new Set(object.maps.filter(({ role }) => role !== 'map').map((map) => map.name))
      const variables = [...loaded.maps].filter(([section]) => sections.has(section))
      return {
        program: loaded.program(name),
        maps: new Map([...loaded.maps].filter(([map]) => !sections.has(map))),
        variables: new Map(variables.map(([section, map]) => [dataName(object.name, section), map])),
        close: () => loaded.close(),
      }
    },
  }
}

/** The one XDP program that is meant. */
function choose(object: BpfObject, section: string | undefined): ObjectProgram {
  const { name: file, programs } = object
  if (section === undefined) {
    // As libbpf has it, SEC("?xdp") is only for those who ask for it.
    const usual = programs.filter(
      (program) => program.attachType === 'xdp' && !program.section.startsWith('?'),
    )
    if (usual.length === 1) return usual[0]
    if (usual.length > 1) {
      throw new OptionError('section', `${file} has several XDP programs: ${list(usual)}`, whichOne(usual))
    }
    const others =
      programs.length === 0 ? 'no program' : `no XDP program for an interface, but ${list(programs)}`
    throw new UnsupportedError(`${file} has ${others}`, 'An XDP program is a function in SEC("xdp").')
  }
  const meant = programs.filter((program) => program.section === section || program.name === section)
  if (meant.length === 0) {
    const there = programs.length === 0 ? 'It has no programs.' : `It has: ${list(programs)}.`
    throw new OptionError('section', `${file} has no program or section "${section}"`, there)
  }
  if (meant.length > 1) {
    throw new OptionError(
      'section',
      `The section "${section}" has several programs: ${list(meant)}`,
      whichOne(meant),
    )
  }
  const [program] = meant
  if (program.type !== 'xdp') {
    const type =
      program.type === undefined ? 'of no known type, going by its section' : `of type ${program.type}`
    throw new UnsupportedError(
      `${list(meant)} is not an XDP program but ${type}`,
      'An XDP program is a function in SEC("xdp").',
    )
  }
  return program
}

function whichOne([{ name }]: readonly ObjectProgram[]): string {
  return `Choose one by its function, as in --section ${printable(name)}.`
}

function list(programs: readonly ObjectProgram[]): string {
  return programs.map(({ name, section }) => `${printable(name)} (SEC "${printable(section)}")`).join(', ')
}

/** Throws `UnsupportedError` for a program that runs behind a devmap or cpumap, which no interface takes. */
export function requireForInterface(chosen: ChosenProgram): void {
  if (chosen.isForInterface) return
  throw new UnsupportedError(
    `The program ${chosen.title} is meant for the entries of a devmap or cpumap`,
    'An interface takes those in SEC("xdp") and SEC("xdp.frags").',
  )
}
