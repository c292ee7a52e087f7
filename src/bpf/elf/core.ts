// CO-RE: changes instructions so that they fit the types of the running kernel (tools/lib/bpf/relo_core.c).
import type { Btf } from '../btf/decode.js'
import { BtfError, type BtfComposite, type BtfType } from '../btf/types.js'
import {
  BPF_ALU,
  BPF_ALU64,
  BPF_CALL,
  BPF_JMP,
  BPF_LDX,
  BPF_ST,
  BPF_STX,
  LD_IMM64,
  SLOT_BYTES,
} from '../instruction.js'
import { essentialName, isCandidateKind } from './core-compat.js'
import { CORE_KINDS, type CoreKind, type CoreSpec, isTypeKind, matchSpec, parseSpec } from './core-spec.js'
import { ElfError, printable } from './error.js'
import type { ExtRelocation } from './ext.js'
import { viewOf } from './file.js'

/** The number of no helper: what a call becomes that must not be reached. libbpf uses the same. */
const POISON = 195896080

/** What a relocation comes to, in one set of types. */
interface Value {
  value: bigint
  /** Size and type of the field, for loads and stores whose width must follow. */
  size: number
  type: number
  /** Whether the instruction must hold the old value. */
  isCertain: boolean
}

/** Instructions that stand for something this kernel does not have, with what it is. */
export type Poisoned = Map<number, string>

/**
 * Applies relocations to a linked program. What the kernel lacks is poisoned: the verifier refuses the program only when such an
 * instruction can be reached. Throws `ElfError` for relocations that make no sense.
 */
export class CoreRelocator {
  readonly #local: Btf
  readonly #openKernel: () => Btf
  readonly #candidates = new Map<number, number[]>()

  /** `kernel` is asked for when the first relocation needs it. */
  constructor(local: Btf, kernel: () => Btf) {
    this.#local = local
    this.#openKernel = kernel
  }

  get #kernel(): Btf {
    return this.#openKernel()
  }

  relocate(bytes: Uint8Array, relocations: readonly ExtRelocation[], program: string): Poisoned {
    const poisoned: Poisoned = new Map()
    for (const relocation of relocations) {
      const place = { symbol: program, offset: relocation.insn * SLOT_BYTES }
      try {
        this.#relocate(bytes, relocation, poisoned)
      } catch (error) {
        if (!(error instanceof BtfError)) throw error
        throw new ElfError(`CO-RE: ${error.message}`, place, error.hint, { cause: error })
      }
    }
    return poisoned
  }

  #relocate(
    bytes: Uint8Array,
    { insn, type, access, kind: number }: ExtRelocation,
    poisoned: Poisoned,
  ): void {
    const kind = CORE_KINDS[number] as CoreKind | undefined
    if (kind === undefined) throw new BtfError(`Relocations of kind ${number} are unknown`)
    const local = parseSpec(this.#local, type, kind, this.#local.string(access))
    if (kind === 'type-id-local') {
      const value: Value = { value: BigInt(type), size: 0, type: 0, isCertain: false }
      patch(bytes, insn, value, value, true)
      return
    }
    const before = valueOf(kind, local)
    const after = this.#target(local)
    if (before === undefined || after === undefined) {
      poison(bytes, insn)
      poisoned.set(insn, describeSpec(local))
      return
    }
    const hasFittingSize = before.size === after.size || this.#maySizeDiffer(before, after)
    if (!patch(bytes, insn, before, after, hasFittingSize)) {
      poison(bytes, insn)
      poisoned.set(insn, `${describeSpec(local)} with ${before.size} bytes (here it has ${after.size})`)
    }
  }

  /** What the relocation comes to in the kernel; undefined when the kernel does not have it and that matters. */
  #target(local: CoreSpec): Value | undefined {
    let found: { spec: CoreSpec; value: Value | undefined } | undefined
    for (const id of this.#candidatesOf(local.root)) {
      const spec = matchSpec(local, this.#kernel, id)
      if (!spec) continue
      const value = valueOf(local.kind, spec)
      if (found && (found.spec.bitOffset !== spec.bitOffset || found.value?.value !== value?.value)) {
        throw new BtfError(`${describeSpec(local)} means different things in different types of that name`)
      }
      found ??= { spec, value }
    }
    return found ? found.value : valueOf(local.kind, undefined)
  }

  #candidatesOf(root: number): readonly number[] {
    let list = this.#candidates.get(root)
    if (!list) {
      const type = this.#local.type(root)
      const name = 'name' in type ? essentialName(type.name) : ''
      if (name === '') throw new BtfError(`The type ${root} has no name to look for in the kernel`)
      list = this.#kernel
        .findAll(name, true)
        .filter(
          (id) =>
            isCandidateKind(type.kind, this.#kernel.kind(id)) &&
            essentialName(this.#kernel.name(id)) === name,
        )
      this.#candidates.set(root, list)
    }
    return list
  }

  /** Pointers, and unsigned integers, may be loaded with another width. */
  #maySizeDiffer(before: Value, after: Value): boolean {
    const [a, b] = [typeOf(this.#local, before.type), typeOf(this.#kernel, after.type)]
    if (a?.kind === 'ptr' && b?.kind === 'ptr') return true
    return a?.kind === 'int' && b?.kind === 'int' && a.encoding !== 'signed' && b.encoding !== 'signed'
  }
}

/** What a kind of relocation comes to for a path; without a path, undefined when there is no answer to that. */
function valueOf(kind: CoreKind, spec: CoreSpec | undefined): Value | undefined {
  const plain = (value: bigint | number, isCertain = true): Value => ({
    value: BigInt(value),
    size: 0,
    type: 0,
    isCertain,
  })
  if (
    kind === 'field-exists' ||
    kind === 'enum-exists' ||
    kind === 'type-exists' ||
    kind === 'type-matches'
  ) {
    return plain(spec ? 1 : 0)
  }
  if (isTypeKind(kind)) {
    if (!spec) return plain(0)
    return kind === 'type-size' ? plain(spec.btf.sizeOf(spec.root)) : plain(spec.root, false)
  }
  if (!spec) return undefined
  if (kind === 'enum-value') {
    const { type, index } = spec.path[0]
    const values = (spec.btf.type(type) as { values: readonly { value: number | bigint }[] }).values
    return plain(values[index].value)
  }
  return fieldValue(kind, spec)
}

/** bpf_core_calc_field_relo */
function fieldValue(kind: CoreKind, { btf, path, bitOffset }: CoreSpec): Value {
  const last = path[path.length - 1]
  if (last.name === undefined) {
    const size = btf.sizeOf(last.type)
    if (bitOffset % 8 !== 0) throw new BtfError('An element of an array begins within a byte')
    if (kind === 'field-offset')
      return { value: BigInt(bitOffset / 8), size, type: last.type, isCertain: true }
    if (kind === 'field-size') return { value: BigInt(size), size: 0, type: 0, isCertain: true }
    throw new BtfError('Only members of a struct have a sign and shifts')
  }
  const member = (btf.type(last.type) as BtfComposite).members[last.index]
  const type = btf.resolve(member.type)
  const bitSize = member.bitSize ?? 0
  const isBitField = bitSize > 0
  let size = btf.sizeOf(type)
  let offset = Math.floor(bitOffset / 8)
  let bits = size * 8
  if (isBitField) {
    bits = bitSize
    if (size === 0) throw new BtfError('A bit field of no size')
    const align = (): number => Math.floor(bitOffset / 8 / size) * size
    offset = align()
    // The smallest load that has all of it.
    while (bitOffset + bits - offset * 8 > size * 8) {
      if (size >= 8) throw new BtfError('A bit field that no load can hold')
      size *= 2
      offset = align()
    }
  }
  const result = (value: number | bigint, isCertain = !isBitField): Value => ({
    value: BigInt(value),
    size: 0,
    type: 0,
    isCertain,
  })
  switch (kind) {
    case 'field-offset':
      return isBitField ? result(offset) : { value: BigInt(offset), size, type, isCertain: true }
    case 'field-size':
      return result(size)
    case 'field-signed':
      return result(isSigned(typeOf(btf, type)) ? 1 : 0, true)
    case 'field-lshift':
      return result(64 - (bitOffset + bits - offset * 8))
    case 'field-rshift':
      return result(64 - bits, true)
    default:
      throw new BtfError(`A field has no ${kind}`)
  }
}

function isSigned(type: BtfType | undefined): boolean {
  if (type?.kind === 'enum' || type?.kind === 'enum64') return type.signed ?? false
  return type?.kind === 'int' && type.encoding === 'signed'
}

function typeOf(btf: Btf, id: number): BtfType | undefined {
  return id === 0 ? undefined : btf.type(id)
}

/** What a path is, for people: `struct task_struct.comm`. */
function describeSpec({ btf, root, path, kind }: CoreSpec): string {
  const type = btf.type(root)
  const name = `${type.kind} ${'name' in type ? essentialName(type.name) : ''}`
  const steps = path
    .filter((step, i) => i > 0 || step.name !== undefined)
    .map((step) => (step.name === undefined ? `[${step.index}]` : `.${step.name}`))
  return printable(
    `${name}${steps.join('')}${kind.startsWith('field-') || isTypeKind(kind) ? '' : ` (${kind})`}`,
  )
}

// Widths of loads and stores by their bits in the opcode: BPF_W, BPF_H, BPF_B, BPF_DW.
const widths = [4, 2, 1, 8]

/**
 * bpf_core_patch_insn. Loads and stores take the width of what is there now, if that is sound (`hasFittingSize`); false when it
 * is not.
 */
function patch(
  bytes: Uint8Array,
  insn: number,
  before: Value,
  { value: after, size }: Value,
  hasFittingSize: boolean,
): boolean {
  const at = insn * SLOT_BYTES
  const view = viewOf(bytes)
  const opcode = bytes[at]
  const expect = (found: bigint | number): void => {
    if (before.isCertain && BigInt(found) !== before.value) {
      throw new BtfError(`The instruction holds ${found} where ${before.value} was expected`)
    }
  }
  const fits = (least: bigint, most: bigint): void => {
    if (after < least || after > most) throw new BtfError(`${after} does not fit into the instruction`)
  }
  switch (opcode & 7) {
    case BPF_ALU:
    case BPF_ALU64:
      if ((opcode & 8) !== 0) throw new BtfError('An instruction without a constant is to be changed')
      expect(
        before.value < 0n || before.value <= 0x7fffffffn
          ? view.getInt32(at + 4, true)
          : view.getUint32(at + 4, true),
      )
      fits(-0x80000000n, 0xffffffffn)
      view.setInt32(at + 4, Number(BigInt.asIntN(32, after)), true)
      return true
    case BPF_LDX:
    case BPF_ST:
    case BPF_STX: {
      expect(view.getInt16(at + 2, true))
      fits(0n, 0x7fffn)
      if (!hasFittingSize) return false
      if (size !== before.size) {
        const width = widths.indexOf(size)
        if (width < 0 || widths[(opcode >> 3) & 3] !== before.size) {
          throw new BtfError(`A load or store of ${before.size} bytes cannot become one of ${size}`)
        }
        bytes[at] = (opcode & ~0x18) | (width << 3)
      }
      view.setInt16(at + 2, Number(after), true)
      return true
    }
    default: {
      const isWide = opcode === LD_IMM64 && at + 2 * SLOT_BYTES <= bytes.length && bytes[at + 1] >> 4 === 0
      if (!isWide) throw new BtfError(`An instruction with opcode 0x${opcode.toString(16)} cannot be changed`)
      const held = (BigInt(view.getUint32(at + 12, true)) << 32n) | BigInt(view.getUint32(at + 4, true))
      expect(before.value < 0n ? BigInt.asIntN(64, held) : held)
      const wide = BigInt.asUintN(64, after)
      view.setUint32(at + 4, Number(wide & 0xffffffffn), true)
      view.setUint32(at + 12, Number(wide >> 32n), true)
      return true
    }
  }
}

/** bpf_core_poison_insn, on both slots of a wide instruction. */
function poison(bytes: Uint8Array, insn: number): void {
  const slots = bytes[insn * SLOT_BYTES] === LD_IMM64 ? 2 : 1
  const view = viewOf(bytes)
  for (let slot = insn; slot < insn + slots && (slot + 1) * SLOT_BYTES <= bytes.length; slot++) {
    view.setUint32(slot * SLOT_BYTES, BPF_JMP | BPF_CALL, true)
    view.setInt32(slot * SLOT_BYTES + 4, POISON, true)
  }
}
