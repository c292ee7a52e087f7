// What a shipped program is to those who choose one by name: a summary, settings in words, a definition.
import type { LoadedXdp, XdpDefinition } from '../bpf/builder/index.js'
import { OptionError } from '../kernel/index.js'

/** Something that can be set of a program, for a help text. */
export interface ProgramSetting {
  /** Half a sentence, with the default: `one packet of so many (default: 100)`. */
  readonly summary: string
  /** What a value looks like: `10.0.0.0/8`. */
  readonly example: string
}

/** What was set, by name: each a list, since a setting may be given several times. */
export type GivenSettings = Readonly<Record<string, readonly string[]>>

/** What a program needs to know of the device. */
export interface ProgramShape {
  /** The most queues the device can ever have. */
  readonly queues: number
}

/** A program as it was set, not loaded. */
export interface DefinedProgram {
  readonly definition: XdpDefinition
  /** Puts into the maps of the loaded program what the settings say, before any packet comes. */
  readonly fill?: (loaded: LoadedXdp) => void
}

/** A program that can be chosen by name. */
export interface ShippedProgram {
  /** Half a sentence: what it does. */
  readonly summary: string
  /** By name. Default: nothing can be set. */
  readonly settings?: Readonly<Record<string, ProgramSetting>>
  /** Builds it; nothing is loaded. Throws `OptionError`, named for the setting, for a value that cannot be; `FilterError` for a filter. */
  readonly define: (given: GivenSettings, shape: ProgramShape) => DefinedProgram
}

/** The one value of a setting; undefined when it was not given. Throws `OptionError` when it was given twice. */
export function oneValue(given: GivenSettings, name: string): string | undefined {
  const values = given[name] ?? []
  if (values.length > 1)
    throw new OptionError(name, `${name} was given ${values.length} times`, 'Give it once.')
  return values[0]
}

/** A whole number from `min` to `max`; undefined when the setting was not given. Throws `OptionError` for anything else. */
export function oneNumber(
  given: GivenSettings,
  name: string,
  { min, max }: { min: number; max: number },
): number | undefined {
  const text = oneValue(given, name)
  if (text === undefined) return undefined
  const value = /^\d+$/.test(text) ? Number(text) : NaN
  if (!(value >= min && value <= max)) {
    throw new OptionError(
      name,
      `"${text}" is no value for ${name}`,
      `Use a whole number from ${min} to ${max}.`,
    )
  }
  return value
}

/** One of a few words; undefined when the setting was not given. Throws `OptionError` for any other. */
export function oneWord<const T extends string>(
  given: GivenSettings,
  name: string,
  words: readonly T[],
): T | undefined {
  const text = oneValue(given, name)
  if (text === undefined) return undefined
  const word = words.find((one) => one === text)
  if (word === undefined) {
    throw new OptionError(name, `"${text}" is no value for ${name}`, `Use ${words.join(' or ')}.`)
  }
  return word
}
