// Source maps (revision 3, ECMA-426) as far as lines need them: Node's own reader takes longer than building a program.

/** What one line of the generated file comes from, by rising column: quadruples of column, source, line and column, all from 0. */
type Segments = number[]

/** A decoded source map. */
export interface LineMap {
  /** The place that a place of the generated file, counted from 0, comes from; undefined where the map says nothing. */
  find(line: number, column: number): { source: string; line: number; column: number } | undefined
}

/** Decodes a source map. Undefined for what is none, or one in sections, which no compiler of TypeScript writes. */
export function decodeSourceMap(text: string): LineMap | undefined {
  const { mappings, sources, sourceRoot } = JSON.parse(text) as Partial<
    Record<'mappings' | 'sourceRoot', string> & { sources: string[] }
  >
  if (typeof mappings !== 'string' || !Array.isArray(sources)) return undefined
  const lines = new Lines(mappings)
  const root = sourceRoot ? sourceRoot.replace(/\/?$/, '/') : ''
  return {
    find(line, column) {
      const segments = lines.at(line)
      if (!segments) return undefined
      let at = segments.length - 4
      while (at >= 0 && segments[at] > column) at -= 4
      if (at < 0) return undefined
      return {
        source: root + sources[segments[at + 1]],
        line: segments[at + 2],
        column: segments[at + 3],
      }
    },
  }
}

const SEMICOLON = 0x3b
const COMMA = 0x2c

/** What each character stands for, by its code. */
const DIGITS = new Uint8Array(128)
for (const [digit, character] of [
  ...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/',
].entries()) {
  DIGITS[character.charCodeAt(0)] = digit
}

/** The lines of a source map, decoded as far as they have been asked for: most that ask want but the first few. */
class Lines {
  readonly #mappings: string
  readonly #lines: Segments[] = []
  /** Where the next line begins. */
  #next = 0
  // Numbers are differences from those before: of columns within the line, of everything else within the file.
  readonly #fields = [0, 0, 0, 0, 0]

  constructor(mappings: string) {
    this.#mappings = mappings
  }

  /** A line, counted from 0; undefined behind the last. */
  at(line: number): Segments | undefined {
    while (this.#lines.length <= line && this.#next <= this.#mappings.length) this.#lines.push(this.#decode())
    return this.#lines[line]
  }

  #decode(): Segments {
    const mappings = this.#mappings
    const fields = this.#fields
    const segments: Segments = []
    let field = 0
    let value = 0
    let shift = 0
    let at = this.#next
    fields[0] = 0
    for (; at <= mappings.length; at++) {
      const character = at < mappings.length ? mappings.charCodeAt(at) : SEMICOLON
      if (character === COMMA || character === SEMICOLON) {
        if (field >= 4) segments.push(fields[0], fields[1], fields[2], fields[3])
        field = 0
        if (character === SEMICOLON) break
      } else {
        const digit = DIGITS[character]
        value |= (digit & 31) << shift
        shift += 5
        if (digit >= 32) continue
        fields[field++] += value & 1 ? -(value >>> 1) : value >>> 1
        value = shift = 0
      }
    }
    this.#next = at + 1
    return segments
  }
}
