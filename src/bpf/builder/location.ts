// Where in the TypeScript source a statement of a program stands: found quickly, since every statement asks.
import { readFileSync } from 'node:fs'
import { SourceMap, findSourceMap } from 'node:module'
import { dirname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { OptionError } from '../../kernel/errors.js'
import { type SourceLocation, sourceText } from '../source.js'

// This folder is the builder's own; whoever calls from outside wrote the statement.
const here = new URL('.', import.meta.url).href
const ownFolders = [here, here.replace('/dist/src/', '/src/')].flatMap((url) => [url, fileURLToPath(url)])

/**
 * The nearest caller outside the builder, as a line of TypeScript: through the source map beside the JavaScript file, whether
 * Node was started with --enable-source-maps or not. A few microseconds.
 */
export function statementLocation(): SourceLocation | undefined {
  if (!tracking) return undefined
  // Most statements are a few calls away; the more frames are taken, the longer it takes.
  return nearestCaller(8) ?? nearestCaller(60)
}

let tracking = true

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
    Error.prepareStackTrace = (_, frames) => frames
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

const own = new Map<string, boolean>()

function isOwn(file: string): boolean {
  let answer = own.get(file)
  if (answer === undefined) {
    answer = file.startsWith('node:') || ownFolders.some((folder) => file.startsWith(folder))
    own.set(file, answer)
  }
  return answer
}

const known = new Map<string, SourceLocation>()

function original(file: string, line: number, column: number): SourceLocation {
  const key = `${file}:${line}:${column}`
  let location = known.get(key)
  if (!location) {
    const path = file.startsWith('file:') ? fileURLToPath(file) : file
    location = mapped(path, line, column) ?? { file: path, line, column }
    known.set(key, location)
  }
  return location
}

const maps = new Map<string, SourceMap | undefined>()

function mapped(path: string, line: number, column: number): SourceLocation | undefined {
  if (!maps.has(path)) maps.set(path, findSourceMap(path) ?? mapBeside(path))
  const entry = maps.get(path)?.findEntry(line - 1, column - 1)
  if (!entry || !('originalSource' in entry)) return undefined
  const source = entry.originalSource
  const file = source.startsWith('file:') ? fileURLToPath(source) : resolve(dirname(path), source)
  return { file, line: entry.originalLine + 1, column: entry.originalColumn + 1 }
}

function mapBeside(path: string): SourceMap | undefined {
  try {
    return new SourceMap(
      JSON.parse(readFileSync(`${path}.map`, 'utf8')) as ConstructorParameters<typeof SourceMap>[0],
    )
  } catch {
    return undefined // TypeScript run as it is, or JavaScript without a map
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
