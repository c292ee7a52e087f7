// Where in the TypeScript source a statement of a program stands: found quickly, since every statement asks.
import { readFileSync } from 'node:fs'
import { findSourceMap } from 'node:module'
import { dirname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { OptionError } from '../../kernel/errors.js'
import { type SourceLocation, sourceText } from '../source.js'
import { type LineMap, decodeSourceMap } from './source-map.js'

// This folder is the builder's own; whoever calls from outside wrote the statement.
const here = new URL('.', import.meta.url).href
const ownFolders = [here, here.replace('/dist/src/', '/src/')].flatMap((url) => [url, fileURLToPath(url)])

/**
 * The nearest caller outside the builder, as a line of TypeScript: through the source map beside the JavaScript file, whether
 * Node was started with --enable-source-maps or not. A few microseconds.
 */
export function statementLocation(): SourceLocation | undefined {
  if (!tracking) return undefined
  if (statement) return statement.at
  // Most statements are a few calls away; the more frames are taken, the longer it takes.
  return nearestCaller(8) ?? nearestCaller(60)
}

/**
 * Writes one statement: all of its instructions stand where it does, and the stack is looked at once. `write` may not call what
 * comes from outside, which has statements of its own.
 */
export function oneStatement<T>(write: () => T): T {
  if (statement || !tracking) return write()
  statement = { at: statementLocation() }
  try {
    return write()
  } finally {
    statement = undefined
  }
}

/** Where what is written now stands, unless the builder itself writes it. */
export const ownLocation = (): SourceLocation | undefined => (statement ? undefined : statementLocation())

let tracking = true
let statement: { readonly at: SourceLocation | undefined } | undefined

/** Builds programs without looking up where their statements stand: for generated programs, which stand nowhere. */
export function withoutLocations<T>(build: () => T): T {
  const before = tracking
  tracking = false
  try {
    return build()
  } finally {
    tracking = before
  }
}

function nearestCaller(frameLimit: number): SourceLocation | undefined {
  const prepare = Reflect.get<typeof Error, 'prepareStackTrace'>(Error, 'prepareStackTrace')
  const { stackTraceLimit } = Error
  const holder: { stack?: unknown } = {}
  try {
    // The frames themselves: formatting them as text costs ten times as much.
    Error.prepareStackTrace = framesThemselves
    Error.stackTraceLimit = frameLimit
    Error.captureStackTrace(holder, statementLocation)
    const frames = holder.stack as NodeJS.CallSite[]
    for (const frame of frames) {
      const file = frame.getFileName()
      if (!file || isOwn(file)) continue
      return original(file, frame.getLineNumber() ?? 1, frame.getColumnNumber() ?? 1)
    }
    return undefined
  } finally {
    Error.prepareStackTrace = prepare
    Error.stackTraceLimit = stackTraceLimit
  }
}

const framesThemselves = (_: Error, frames: NodeJS.CallSite[]): NodeJS.CallSite[] => frames

const own = new Map<string, boolean>()

function isOwn(file: string): boolean {
  let answer = own.get(file)
  if (answer === undefined) {
    answer = file.startsWith('node:') || ownFolders.some((folder) => file.startsWith(folder))
    own.set(file, answer)
  }
  return answer
}

/** What is known of a file of JavaScript: where its places come from. */
interface Origin {
  readonly path: string
  readonly map: LineMap | undefined
  /** The files that it was made from, as paths, by their names in the map. */
  readonly sources: Map<string, string>
  /** By line and column of the JavaScript. */
  readonly places: Map<number, SourceLocation>
}

const origins = new Map<string, Origin>()

function original(file: string, line: number, column: number): SourceLocation {
  let origin = origins.get(file)
  if (!origin) {
    const path = file.startsWith('file:') ? fileURLToPath(file) : file
    origin = { path, map: mapBeside(path) ?? loadedMap(path), sources: new Map(), places: new Map() }
    origins.set(file, origin)
  }
  const key = line * 0x1_0000_0000 + column
  let place = origin.places.get(key)
  if (!place) {
    place = mapped(origin, line, column) ?? { file: origin.path, line, column }
    origin.places.set(key, place)
  }
  return place
}

function mapped({ path, map, sources }: Origin, line: number, column: number): SourceLocation | undefined {
  const entry = map?.find(line - 1, column - 1)
  if (!entry) return undefined
  let file = sources.get(entry.source)
  if (file === undefined) {
    file = entry.source.startsWith('file:')
      ? fileURLToPath(entry.source)
      : resolve(dirname(path), entry.source)
    sources.set(entry.source, file)
  }
  return { file, line: entry.line + 1, column: entry.column + 1 }
}

function mapBeside(path: string): LineMap | undefined {
  try {
    return decodeSourceMap(readFileSync(`${path}.map`, 'utf8'))
  } catch {
    return undefined // TypeScript run as it is, or JavaScript without a map
  }
}

/** With --enable-source-maps Node knows those too that stand in the JavaScript itself. */
function loadedMap(path: string): LineMap | undefined {
  const map = findSourceMap(path)
  if (!map) return undefined
  return {
    find(line, column) {
      const entry = map.findEntry(line, column)
      if (!('originalSource' in entry)) return undefined
      return { source: entry.originalSource, line: entry.originalLine, column: entry.originalColumn }
    },
  }
}

/** The error of a program that cannot be built: says the line it stands on, and that line's text. */
export function programError(
  option: string,
  message: string,
  hint?: string,
  at: SourceLocation | undefined = statementLocation(),
): OptionError {
  const text = at && sourceText(at)
  const where = at ? ` (${at.file}:${at.line}${text ? ` \`${text}\`` : ''})` : ''
  return new OptionError(option, `${message}${where}`, hint)
}
