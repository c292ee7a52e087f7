// Options that are one of a few words.
import { OptionError } from './errors.js'

/** Throws `OptionError` for a word that is not among those allowed: JavaScript and configuration files hand over anything. */
export function oneOf(option: string, value: unknown, allowed: readonly string[]): void {
  if (typeof value === 'string' && allowed.includes(value)) return
  throw new OptionError(option, `"${String(value)}" is no ${option}`, `Use one of ${allowed.join(', ')}.`)
}
