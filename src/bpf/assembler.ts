// From written code to bytes: labels become offsets, map references and source lines are listed for the loader.
import { XdpError } from '../kernel/errors.js'
import type { Code, Label, MapTarget, Operation } from './asm.js'
import { isCode } from './asm.js'
import {
  BPF_JA,
  BPF_JEQ,
  BPF_JGE,
  BPF_JGT,
  BPF_JLE,
  BPF_JLT,
  BPF_JMP,
  BPF_JMP32,
  BPF_JNE,
  BPF_JSGE,
  BPF_JSGT,
  BPF_JSLE,
  BPF_JSLT,
  BPF_PSEUDO_MAP_VALUE,
  encodeProgram,
  slotsOf,
} from './instruction.js'
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
  /** Whether some jump reaches further than 16 bits say: the kernel has that from 6.6. */
  hasLongJumps?: boolean
}

/** How code is assembled. */
export interface AssembleOptions {
  /** Jumps to where 16 bits do not reach: `refuse` them (the default), or write `long` ones instead, which take kernel 6.6. */
  farJumps?: 'refuse' | 'long'
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

/** Turns code into bytes. Throws `AssemblerError` for a label that is missing, there twice, or (unless `farJumps` says) out of reach. */
export function assemble(code: Code, { farJumps = 'refuse' }: AssembleOptions = {}): AssembledProgram {
  const written = layOut(code)
  const { operations, indices, labels } = farJumps === 'long' ? lengthenJumps(written) : written
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
    ...(operations !== written.operations && { hasLongJumps: true }),
  }
}

/** Code in one line: the slot of each instruction, and of what each label stands before. */
interface Layout {
  readonly operations: Operation[]
  readonly indices: number[]
  readonly labels: Map<string, number>
}

/** Flattens nested code, gives each instruction its slot and each label its place. */
function layOut(code: Code): Layout {
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

/** The condition that holds where another does not, by operation; there is none for BPF_JSET. */
const CONTRARY = new Map([
  [BPF_JEQ, BPF_JNE],
  [BPF_JGT, BPF_JLE],
  [BPF_JGE, BPF_JLT],
  [BPF_JSGT, BPF_JSLE],
  [BPF_JSGE, BPF_JSLT],
])
for (const [one, other] of [...CONTRARY]) CONTRARY.set(other, one)

const OPERATION = 0xf0

/** Writes jumps whose label is too far away as long ones, which have no condition: others jump over them. */
function lengthenJumps(written: Layout): Layout {
  let layout = written
  // Each that gets longer moves others apart.
  for (;;) {
    const { operations, indices, labels } = layout
    const isFar = operations.map(({ to }, position) => {
      const target = to?.kind === 'jump' ? labels.get(to.label) : undefined
      return target !== undefined && !isNear(target - indices[position] - 1)
    })
    if (!isFar.includes(true)) return layout
    const spread: Operation[] = []
    const moved = new Map<number, number>()
    const places: number[] = []
    let index = 0
    operations.forEach((operation, position) => {
      moved.set(indices[position], index)
      for (const one of isFar[position] ? long(operation) : [operation]) {
        spread.push(one)
        places.push(index)
        index += slotsOf(one)
      }
    })
    // A label may stand behind the last instruction.
    const end = index
    layout = {
      operations: spread,
      indices: places,
      labels: new Map([...labels].map(([label, at]) => [label, moved.get(at) ?? end])),
    }
  }
}

function long(jump: Operation): Operation[] {
  const { opcode, to, source } = jump
  const always = { dst: 0, src: 0, offset: 0, imm: 0, ...(source && { source }) }
  const far: Operation = {
    ...always,
    opcode: BPF_JMP32 | BPF_JA,
    to: { label: to!.label, kind: 'long jump' },
  }
  const operation = opcode & OPERATION
  if (operation === BPF_JA) return [far]
  const contrary = CONTRARY.get(operation)
  const test = { ...jump, offset: 1 }
  delete test.to
  if (contrary !== undefined) return [{ ...test, opcode: (opcode & ~OPERATION) | contrary }, far]
  return [test, { ...always, opcode: BPF_JMP | BPF_JA, offset: 1 }, far]
}

const isNear = (distance: number): boolean => distance >= -0x8000 && distance <= 0x7fff

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
  if (!isNear(distance)) {
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
