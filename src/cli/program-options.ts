// The options of every command that takes a program: which one of an object, and what is set of it.
import { InvalidArgumentError, type Command } from 'commander'
import type { BpfObject } from '../bpf/index.js'
import { OptionError } from '../kernel/index.js'
import type { GivenSettings, ShippedProgram } from '../programs/index.js'

/** What commander makes of the options that `addProgramOptions` declares. */
export interface ProgramFlags {
  section?: string
  set?: readonly Setting[]
  filter?: string
}

/** The same of commands that have a program of their own, which another can stand in for. */
export interface SteeringFlags extends ProgramFlags {
  program?: string
  takeTraffic?: boolean
}

/** `name=value` as it was given. */
export interface Setting {
  name: string
  value: string
}

/** Declares `--section`, `--set` and `--filter` on a command. */
export function addProgramOptions(command: Command): Command {
  return addProgramParts(command).option(
    '--filter <expression>',
    "in front of a shipped program: what it gets, in tcpdump's language; the others pass",
  )
}

/**
 * Declares `--program` and what is said of one, on a command with sockets that brings a program of its own. `rest` says what becomes of
 * what the other program gives and the command has no use for; `letter` leaves `-p` to something else.
 */
export function addSteeringOptions(
  command: Command,
  { rest, letter = '-p, ', own }: { rest: string; letter?: '-p, ' | ''; own: string },
): Command {
  return addProgramOptions(
    command.option(
      `${letter}--program <program>`,
      'another program to give packets to the sockets: a name, or an object file whose map of sockets is "xsks_map"; ' +
        `${rest} (default: ${own})`,
    ),
  )
}

/** Declares `--section` and `--set`, on a command that has a filter anyway. `letter` leaves `-s` to something else. */
export function addProgramParts(command: Command, letter: '-s, ' | '' = '-s, '): Command {
  return command
    .option(`${letter}--section <name>`, 'which program of an object file: its function or section')
    .option(
      '--set <name=value>',
      'a setting of a shipped program, or a global variable of an object file (repeatable)',
      addSetting,
    )
}

/** Throws `OptionError` for what is said of a program when none is named. */
export function requireProgram(flags: ProgramFlags, parts: readonly (keyof ProgramFlags)[]): void {
  for (const option of parts) {
    if (flags[option] === undefined) continue
    throw new OptionError(
      option,
      `--${option} is about a program, and none was named`,
      'Name one with --program.',
    )
  }
}

function addSetting(text: string, list: readonly Setting[] = []): readonly Setting[] {
  const at = text.indexOf('=')
  if (at < 1) throw new InvalidArgumentError('Use a name, an equals sign and a value, as in port=53.')
  return [...list, { name: text.slice(0, at), value: text.slice(at + 1) }]
}

/** The settings by name, for a shipped program. Throws `OptionError` for one that it does not have. */
export function givenSettings(
  choice: string,
  { settings = {} }: ShippedProgram,
  set: readonly Setting[] = [],
): GivenSettings {
  const given: Record<string, string[]> = {}
  for (const { name, value } of set) {
    if (!Object.hasOwn(settings, name)) {
      const known = Object.keys(settings).join(', ')
      throw new OptionError(
        'set',
        `The program "${choice}" has no setting "${name}"`,
        known === '' ? 'Nothing can be set of it.' : `It has: ${known}.`,
      )
    }
    given[name] = [...(given[name] ?? []), value]
  }
  return given
}

/**
 * Puts values into the global variables of an object that is not loaded yet: constants in `.rodata` too. Throws
 * `OptionError` for one that is not there, is given twice, or takes no such value.
 */
export function setVariables(object: BpfObject, set: readonly Setting[] = []): void {
  const done = new Set<string>()
  for (const { name, value } of set) {
    if (done.has(name))
      throw new OptionError('set', `The variable "${name}" is set more than once`, 'Set it once.')
    done.add(name)
    object.setGlobal(name, asVariable(object, name, value))
  }
}

/** The value that stands for a text, by the C type of the variable. */
function asVariable({ btf, globals }: BpfObject, name: string, text: string): unknown {
  const global = globals.find((one) => one.name === name)
  if (global === undefined) return text // Whoever takes it says which there are.
  const variable = btf?.find(name, 'var')
  const type = variable === undefined ? undefined : btf?.resolved(variable)
  const declared = type?.kind === 'var' ? btf?.resolved(type.type) : type
  if (declared === undefined) {
    // Compiled without -g: numbers as wide as the machine has them, else bytes.
    return [1, 2, 4, 8].includes(global.size) ? asNumber(name, text) : asBytes(name, text)
  }
  switch (declared.kind) {
    case 'int':
      if (declared.encoding !== 'bool') return asNumber(name, text)
      if (['true', 'false', '1', '0'].includes(text)) return text === 'true' || text === '1'
      throw refused(name, text, 'true or false')
    case 'enum':
    case 'enum64': {
      const named = declared.values.find((one) => one.name === text)
      return named ? named.value : asNumber(name, text)
    }
    case 'ptr':
      return asNumber(name, text)
    case 'array': {
      const element = btf?.resolved(declared.element)
      if (element?.kind === 'int' && element.size === 1)
        return element.name === 'char' ? text : asBytes(name, text)
      return asJson(name, text, 'a list, as in [1, 2, 3]')
    }
    default:
      return asJson(name, text, 'its members, as in {"low": 1, "high": 2}')
  }
}

function asNumber(name: string, text: string): number | bigint {
  if (!/^(?:-?\d+|0x[0-9a-f]+)$/i.test(text)) throw refused(name, text, 'a whole number, as in 53 or 0x35')
  const value = BigInt(text)
  const near = Number(value)
  return Number.isSafeInteger(near) ? near : value
}

function asBytes(name: string, text: string): Uint8Array {
  if (text.length % 2 !== 0 || !/^[0-9a-f]*$/i.test(text))
    throw refused(name, text, 'bytes in hex, two digits each')
  return Uint8Array.from(Buffer.from(text, 'hex'))
}

function asJson(name: string, text: string, wanted: string): unknown {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw refused(name, text, wanted)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value) !== wanted.startsWith('a list'))
    throw refused(name, text, wanted)
  return value
}

function refused(name: string, text: string, wanted: string): OptionError {
  return new OptionError('set', `"${text}" is no value for the variable "${name}"`, `Use ${wanted}.`)
}
