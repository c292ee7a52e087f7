// What is wrong with an object file, and where.
import { XdpError } from '../../kernel/errors.js'

/** Where in an object something is. */
export interface ElfPlace {
  section?: string | undefined
  /** The function, map or variable. */
  symbol?: string | undefined
  /** Byte offset in the section; in the file when there is no section. */
  offset?: number | undefined
}

/** An object file that cannot be read, linked or loaded: `code` is `XDP_ELF`. */
export class ElfError extends XdpError {
  readonly section: string | undefined
  readonly symbol: string | undefined
  readonly offset: number | undefined

  constructor(message: string, place: ElfPlace = {}, hint?: string, options?: ErrorOptions) {
    super('XDP_ELF', `${message}${placeText(place)}`, hint, options)
    this.section = place.section
    this.symbol = place.symbol
    this.offset = place.offset
  }
}

function placeText({ section, symbol, offset }: ElfPlace): string {
  const parts = [
    section === undefined ? '' : `section "${printable(section)}"`,
    symbol === undefined ? '' : `symbol "${printable(symbol)}"`,
    offset === undefined ? '' : `offset 0x${offset.toString(16)}`,
  ].filter((part) => part !== '')
  return parts.length === 0 ? '' : ` (${parts.join(', ')})`
}

/** Names come from the file: shortened, and without what a terminal would act on. */
export function printable(name: string): string {
  const clean = name.replace(/[\u0000-\u001f\u007f-\u009f]/g, '?')
  return clean.length > 80 ? `${clean.slice(0, 79)}…` : clean
}
