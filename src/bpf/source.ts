// Where in the TypeScript source an instruction was written, so that a rejected program can name the line.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** A place in a source file. With `node --enable-source-maps` it is the TypeScript line, else the JavaScript one. */
export interface SourceLocation {
  /** Absolute path. */
  file: string
  /** Counted from 1. */
  line: number
  /** Counted from 1. */
  column: number
  /** The line's text, where it is known without the file: objects carry the lines of their C source. */
  text?: string
}

let capturing = false

/**
 * Runs `write` with source capture on: every instruction made meanwhile carries the place it was written at.
 * Costs a stack trace an instruction (some 10 µs), so it is off by default.
 */
export function captureSources<T>(write: () => T): T {
  const before = capturing
  capturing = true
  try {
    return write()
  } finally {
    capturing = before
  }
}

/** The place outside this folder that called, or undefined when capture is off or the place is unknown. For the functions that make instructions. */
export function callSite(): SourceLocation | undefined {
  return capturing ? currentLocation() : undefined
}

/** The nearest caller outside `src/bpf`, whether capture is on or not. */
export function currentLocation(): SourceLocation | undefined {
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = 20
  const stack = new Error().stack ?? ''
  Error.stackTraceLimit = limit
  for (const frame of stack.split('\n').slice(1)) {
    const location = parseFrame(frame)
    if (location && !ownFolders.some((folder) => location.file.startsWith(folder))) return location
  }
  return undefined
}

/** The text of the line, trimmed; undefined when the file cannot be read. */
export function sourceText({ file, line, text }: SourceLocation): string | undefined {
  if (text !== undefined) return text.trim()
  let lines = files.get(file)
  if (!lines) {
    try {
      lines = readFileSync(file, 'utf8').split('\n')
    } catch {
      lines = []
    }
    files.set(file, lines)
  }
  return lines[line - 1]?.trim()
}

const files = new Map<string, string[]>()

// `    at name (file:///path/x.js:3:5)`, `    at /path/x.ts:3:5`
function parseFrame(frame: string): SourceLocation | undefined {
  const match = /(?:\(|at (?:async )?)((?:file:\/\/)?\/[^()]*):(\d+):(\d+)\)?$/.exec(frame)
  if (!match) return undefined
  const file = match[1].startsWith('file:') ? fileURLToPath(match[1]) : match[1]
  return { file, line: Number(match[2]), column: Number(match[3]) }
}

// This folder as JavaScript, and as the TypeScript it was made from.
const here = fileURLToPath(new URL('.', import.meta.url))
const ownFolders = [here, here.replace('/dist/src/', '/src/')]
