// From written code to bytes: labels become offsets, map references and source lines are listed for the loader.
import { XdpError } from '../kernel/errors.js'
import type { Code, Label, MapTarget, Operation } from './asm.js'
import { isCode } from './asm.js'
import { BPF_PSEUDO_MAP_VALUE, encodeProgram, slotsOf } from './instruction.js'
import type { SourceLocation } from './source.js'

/** A place in the code where the loader writes a map's descriptor. */
export interface MapReference {
  /** Slot of the wide load. */
  index: number
  map: MapTarget
  /** The load gives the map itself, or the address of its value. */
  kind: 'map' | 'value'
}

/** A function of the program: the entry, and whatever `callLocal` and `loadFunction` name. */
export interface ProgramFunction {
  name: string
  /** Slot it starts at. */
  index: number
}

/** The source of an instruction, in the order of the code. */
export interface SourceLine {
  /** Slot of the instruction. */
  index: number
  source: SourceLocation
}

/** A program as bytes, with what the loader needs to know about them. Indices count 8-byte slots, as the kernel does. */
export interface AssembledProgram {
  bytes: Uint8Array
  references: MapReference[]
  functions: ProgramFunction[]
  lines: SourceLine[]
  labels: ReadonlyMap<string, number>
}

/** Code that cannot be assembled: `code` is `XDP_ASSEMBLER`. */
export class AssemblerError extends XdpError {
  /** The label at fault. */
  readonly label: string
  /** Where the offending instruction was written, when sources were captured. */
  readonly source: SourceLocation | undefined

  constructor(label: string, message: string, source?: SourceLocation, hint?: string) {
    super('XDP_ASSEMBLER', source ? `${message} (${source.file}:${source.line})` : message, hint)
    this.label = label
    this.source = source
  }
}

/** The function that a program starts with, when the code does not begin with a label of its own. */
export const ENTRY = 'main'

/** Turns code into bytes. Throws `AssemblerError` for a label that is missing, there twice, or out of a jump's reach. */
export function assemble(code: Code): AssembledProgram {
  const { operations, indices, labels } = layOut(code)
  const references: MapReference[] = []
  const lines: SourceLine[] = []
  const functionLabels = new Set<string>()
  const resolved = operations.map((operation, position) => {
    const index = indices[position]
    if (operation.source) lines.push({ index, source: operation.source })
    if (operation.map !== undefined) {
      const kind = operation.src === BPF_PSEUDO_MAP_VALUE ? 'value' : 'map'
      references.push({ index, map: operation.map, kind })
    }
    const { to } = operation
    if (!to) return operation
    if (to.kind === 'call' || to.kind === 'function') functionLabels.add(to.label)
    return aim(operation, index, labels)
  })
  return {
    bytes: encodeProgram(resolved),
    references,
    functions: functionsOf(functionLabels, labels),
    lines,
    labels,
  }
}

/** Flattens nested code, gives each instruction its slot and each label its place. */
function layOut(code: Code): { operations: Operation[]; indices: number[]; labels: Map<string, number> } {
  const operations: Operation[] = []
  const indices: number[] = []
  const labels = new Map<string, number>()
  let index = 0
  const visit = (item: Operation | Label | Code): void => {
    if (isCode(item)) {
      item.forEach(visit)
    } else if ('label' in item) {
      if (labels.has(item.label)) {
        throw new AssemblerError(item.label, `The label "${item.label}" is there twice`, item.source)
      }
      labels.set(item.label, index)
    } else {
      operations.push(item)
      indices.push(index)
      index += slotsOf(item)
    }
  }
  visit(code)
  return { operations, indices, labels }
}

/** Writes the distance to its label into an instruction. Distances count from the next instruction. */
function aim(operation: Operation, index: number, labels: ReadonlyMap<string, number>): Operation {
  const { label, kind } = operation.to!
  const target = labels.get(label)
  if (target === undefined) {
    throw new AssemblerError(label, `No label "${label}", which a ${kind} goes to`, operation.source)
  }
  // A function's address counts from the next slot too: the second half of the load itself.
  const distance = target - index - 1
  if (kind !== 'jump') return { ...operation, imm: distance }
  if (distance < -0x8000 || distance > 0x7fff) {
    throw new AssemblerError(
      label,
      `The label "${label}" is ${distance} slots away, more than a jump's 16 bits reach`,
      operation.source,
      'Use `jumpLong` (kernel 6.6), or call a subprogram.',
    )
  }
  return { ...operation, offset: distance }
}

function functionsOf(names: ReadonlySet<string>, labels: ReadonlyMap<string, number>): ProgramFunction[] {
  const entry = [...labels].find(([, index]) => index === 0)?.[0] ?? ENTRY
  const functions = [...names].map((name) => ({ name, index: labels.get(name)! }))
  if (!functions.some(({ index }) => index === 0)) functions.push({ name: entry, index: 0 })
  return functions.sort((a, b) => a.index - b.index)
}
