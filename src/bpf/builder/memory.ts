// Places in memory as a program sees them: fields of packets, of map values and of structs on the stack, by codec.
import type { AnyCodec, ArrayCodec, IntegerCodec, StructCodec } from '../codec.js'
import { type Operand, type Space } from './ir.js'
import { KINDS, type Kind, checkCount, constant, infoOf, shown } from './kinds.js'
import { oneStatement, programError } from './location.js'
import { type PacketBase, type Scope, type Tracer, isWithin } from './trace.js'
import type { Condition } from './value.js'
import { type Term, Value } from './value.js'

/** An address: a value, and a constant number of bytes behind it. */
export interface Place {
  readonly tracer: Tracer
  readonly space: Space
  readonly base: number
  readonly offset: number
  /** Where it was found: on every path there are its bytes. */
  readonly scope: Scope
  /** In packets: the place the packet had when the address was made. */
  readonly packet?: PacketBase
  /** In packets, where it is known without a subtraction: how many bytes `base` is behind the packet's first. */
  readonly start?: Operand
  /** Map values that no other CPU sees need no atomic operations. */
  readonly shared?: boolean
}

/** The place that an address is, found here. */
export function placeHere(
  tracer: Tracer,
  space: Space,
  base: number,
  more?: Pick<Place, 'packet' | 'start'>,
): Place {
  return { tracer, space, base, offset: 0, scope: tracer.point.scope, ...more }
}

/** A place `bytes` further. */
export const further = (place: Place, bytes: number): Place => ({ ...place, offset: place.offset + bytes })

/** A place in the packet, as many bytes further as the program computed. */
export function movedBy(place: Place, bytes: Operand): Place {
  const { tracer } = place
  const start = place.start === undefined ? undefined : tracer.alu('add', 32, place.start, bytes)
  return {
    ...place,
    base: tracer.alu('add', 64, place.base, bytes),
    ...(start !== undefined && { start }),
  }
}

/** How many bytes a place in the packet is behind the packet's first: 32 bits. */
export function startOf({ tracer, base, offset, packet, start }: Place): Operand {
  const from = start ?? tracer.alu('sub', 64, base, packet!.data)
  return tracer.alu('add', 32, from, BigInt(offset))
}

const FOUND: Record<Space, string> = {
  packet: 'This header was found',
  map: 'This map value or record was found',
  stack: 'This struct was made',
  context: 'This was found',
}

/** Throws when the packet has moved since the place was made, or when there are paths from elsewhere. */
export function checkPlace({ tracer, packet, scope, space }: Place): void {
  const { point } = tracer
  if (!isWithin(point.scope, scope)) {
    throw programError(
      'place',
      `${FOUND[space]} in a branch that not every path takes: it is not known here`,
      'Use it in that branch, or find it before.',
    )
  }
  if (packet && packet !== point.packet) {
    throw programError(
      'packet',
      'This header was found before the packet was moved (adjustHead, adjustTail): its place is not known any more',
      'Start again at x.packet.',
    )
  }
}

function loadFrom(place: Place, kind: Kind): number {
  checkPlace(place)
  const { tracer, space, base, offset } = place
  const { size, signed, bits } = KINDS[kind]
  const loaded = tracer.load(space, size, base, offset)
  if (!signed || bits >= 32) return loaded
  const unused = BigInt(32 - bits)
  return tracer.alu('arsh', 32, tracer.alu('lsh', 32, loaded, unused), unused)
}

/** Writes into a place. */
export function storeTo(place: Place, kind: Kind, operand: Operand): void {
  checkPlace(place)
  place.tracer.store(place.space, KINDS[kind].size, place.base, place.offset, operand)
}

/** An integer in memory: a value, read where it is written down, that can be written too. */
export class Field<K extends Kind = Kind> extends Value<K> {
  /** For the builder's own use. */
  readonly place: Place

  constructor(place: Place, kind: K) {
    super(place.tracer, kind, loadFrom(place, kind))
    this.place = place
  }

  /** Writes it. The value that was read before stays what it was. */
  set(value: Term<K>): void {
    storeTo(this.place, this.kind, this.term(value))
  }

  /** Adds to it, without other CPUs coming in between, and without looking at the result. For u32 and u64 in maps. */
  atomicAdd(amount: Term<K>): void {
    this.#atomic('add', amount)
  }
  atomicOr(bits: Term<K>): void {
    this.#atomic('or', bits)
  }
  atomicAnd(bits: Term<K>): void {
    this.#atomic('and', bits)
  }
  atomicXor(bits: Term<K>): void {
    this.#atomic('xor', bits)
  }
  /** Adds, and gives what was there before (5.12). */
  fetchAdd(amount: Term<K>): Value<K> {
    return this.#fetch('fetch-add', amount)
  }
  /** Puts a value there, and gives what was there before (5.12). */
  exchange(value: Term<K>): Value<K> {
    return this.#fetch('xchg', value)
  }
  /** Reads, adds, writes: for per-CPU values and other memory that nobody else writes meanwhile. */
  increment(amount: Term<K> = 1): void {
    const sum = this.add(amount)
    this.set(sum.as(this.kind))
  }

  #fetch(kind: 'fetch-add' | 'xchg', operand: Term<K>): Value<K> {
    return new Value(this.tracer, this.kind, this.#atomic(kind, operand, this.tracer.newValue())!)
  }

  #atomic(
    kind: 'add' | 'or' | 'and' | 'xor' | 'fetch-add' | 'xchg',
    operand: Term<K>,
    dst?: number,
  ): number | undefined {
    const { size, network } = KINDS[this.kind]
    checkPlace(this.place)
    const { space, base, offset } = this.place
    if ((size !== 'u32' && size !== 'u64') || network) {
      throw programError('atomic', `Atomic operations are for 32 and 64 bits, not for ${this.kind}`)
    }
    if (space === 'packet') throw programError('atomic', 'The kernel allows no atomic operations on packets')
    this.tracer.emit({ op: 'atomic', dst, kind, size, base, offset, value: this.term(operand) })
    this.tracer.changed(space)
    return dst
  }
}

/** Bytes in memory: addresses and the like. */
export class Bytes {
  readonly length: number
  /** For the builder's own use. */
  readonly place: Place

  constructor(place: Place, length: number) {
    this.place = place
    this.length = length
  }

  /** Those from a fixed offset on. */
  from(offset: number): Bytes {
    return new Bytes(further(this.place, offset), Math.max(0, this.length - offset))
  }

  /** Whether they are these bytes: of another place, or known ones. */
  eq(other: Bytes | Uint8Array): Condition {
    this.#sameLength(other)
    let all: Condition | undefined
    for (const { at, kind } of chunks(this.length)) {
      const mine = this.field(at, kind)
      const one = mine.eq(other instanceof Bytes ? other.field(at, kind) : littleEndian(other, at, kind))
      all = all ? all.and(one) : one
    }
    return all!
  }

  ne(other: Bytes | Uint8Array): Condition {
    return this.eq(other).not()
  }

  /** Copies other bytes here: of another place, or known ones. */
  set(other: Bytes | Uint8Array): void {
    this.#sameLength(other)
    oneStatement(() => {
      const parts = chunks(this.length).map(({ at, kind }) => ({
        at,
        kind,
        // All are read before any is written: the places may overlap.
        operand:
          other instanceof Bytes
            ? loadFrom(further(other.place, at), kind)
            : constant(kind, littleEndian(other, at, kind)),
      }))
      for (const { at, kind, operand } of parts) storeTo(further(this.place, at), kind, operand)
    })
  }

  /** Exchanges them with others. */
  swap(other: Bytes): void {
    this.#sameLength(other)
    oneStatement(() => {
      const parts = chunks(this.length).map(({ at, kind }) => ({
        at,
        kind,
        mine: loadFrom(further(this.place, at), kind),
        theirs: loadFrom(further(other.place, at), kind),
      }))
      for (const { at, kind, mine, theirs } of parts) {
        storeTo(further(this.place, at), kind, theirs)
        storeTo(further(other.place, at), kind, mine)
      }
    })
  }

  /** The integer at byte `at`. */
  field<K extends Kind>(at: number, kind: K): Field<K> {
    this.#within(at, infoOf(kind).bits / 8)
    return new Field(further(this.place, at), kind)
  }

  /** A part of them. */
  slice(at: number, length: number): Bytes {
    this.#within(at, length)
    return new Bytes(further(this.place, at), length)
  }

  #within(at: number, length: number): void {
    checkCount('length', length)
    if (!Number.isInteger(at) || at < 0 || at + length > this.length) {
      throw programError('at', `${length} bytes at ${shown(at)} are not within ${this.length} bytes`)
    }
  }

  #sameLength(other: Bytes | Uint8Array): void {
    const length = byteLength(other)
    if (length !== this.length) {
      throw programError('bytes', `${this.length} bytes meet ${length}`)
    }
  }
}

/** How many bytes these are. Throws `OptionError` for what has none. */
export function byteLength(bytes: Bytes | Uint8Array): number {
  if (bytes instanceof Bytes || bytes instanceof Uint8Array) return bytes.length
  throw programError('bytes', `${shown(bytes)} is neither bytes of the program nor a Uint8Array`)
}

/** The fewest accesses that cover `length` bytes. */
export function chunks(length: number): { at: number; kind: 'u64' | 'u32' | 'u16' | 'u8' }[] {
  const parts: { at: number; kind: 'u64' | 'u32' | 'u16' | 'u8' }[] = []
  for (let at = 0; at < length;) {
    const left = length - at
    const kind = left >= 8 ? 'u64' : left >= 4 ? 'u32' : left >= 2 ? 'u16' : 'u8'
    parts.push({ at, kind })
    at += KINDS[kind].bits / 8
  }
  return parts
}

function littleEndian(bytes: Uint8Array, at: number, kind: Kind): bigint {
  let value = 0n
  for (let i = KINDS[kind].bits / 8 - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[at + i])
  return value
}

/** An array in memory. */
export class Elements<C extends AnyCodec> {
  readonly length: number
  readonly #place: Place
  readonly #element: C

  constructor(place: Place, element: C, length: number) {
    this.#place = place
    this.#element = element
    this.length = length
  }

  at(index: number): Ref<C> {
    if (!Number.isInteger(index) || index < 0 || index >= this.length) {
      throw programError('at', `The array has no element ${index}, but ${this.length}`)
    }
    return refTo(further(this.#place, index * this.#element.size), this.#element)
  }
}

/** What a codec's type is in a program: fields for integers, members for structs, bytes for the rest. */
export type Ref<C> = C extends IntegerCodec<number, infer K> | IntegerCodec<bigint, infer K>
  ? Field<K>
  : C extends StructCodec<infer M>
    ? { readonly [P in keyof M]: Ref<M[P]> }
    : C extends ArrayCodec<infer E>
      ? Elements<E>
      : Bytes

/** What may be written where a codec's type is: integers, bytes, objects with every member or fewer (the others become zero). */
export type Init<C> = C extends IntegerCodec<number, infer K> | IntegerCodec<bigint, infer K>
  ? Term<K>
  : C extends StructCodec<infer M>
    ? { readonly [P in keyof M]?: Init<M[P]> }
    : C extends ArrayCodec<infer E>
      ? readonly Init<E>[]
      : Bytes | Uint8Array

/** Looks at a place as a codec's type. */
export function refTo<C extends AnyCodec>(place: Place, codec: C): Ref<C> {
  const { shape } = codec
  if (shape?.kind === 'integer') {
    const kind = (shape.bigEndian ? shape.type.replace('u', 'be') : shape.type) as Kind
    return new Field(place, kind) as Ref<C>
  }
  if (shape?.kind === 'array') return new Elements(place, shape.element, shape.length) as unknown as Ref<C>
  if (shape?.kind !== 'struct') return new Bytes(place, codec.size) as Ref<C>
  const members = {}
  for (const { name, offset, codec: member } of shape.members) {
    // A getter, since looking at a field reads it.
    Object.defineProperty(members, name, {
      enumerable: true,
      get: () => refTo(further(place, offset), member),
    })
  }
  return members as Ref<C>
}

/** Writes an initial value; what it leaves out, padding included, becomes zero. */
export function initialize<C extends AnyCodec>(place: Place, codec: C, init: Init<C> | undefined): void {
  const covered = new Uint8Array(codec.size)
  const writes: (() => void)[] = []
  collect(place, codec, init, 0, covered, writes)
  // Helpers read all of it, and hash maps compare all of it.
  for (let at = 0; at < codec.size;) {
    const size = [8, 4, 2, 1].find((n) => at % n === 0 && at + n <= codec.size)!
    if (covered.subarray(at, at + size).some((byte) => byte === 0)) {
      // A word that is only partly written is cleared as a whole first, which is one instruction.
      storeTo(further(place, at), `u${size * 8}` as Kind, 0n)
    }
    at += size
  }
  for (const write of writes) write()
}

function collect(
  place: Place,
  codec: AnyCodec,
  init: unknown,
  at: number,
  covered: Uint8Array,
  writes: (() => void)[],
): void {
  const { shape } = codec
  const here = further(place, at)
  const cover = (): Uint8Array => covered.fill(1, at, at + codec.size)
  if (init === undefined) return
  if (shape?.kind === 'struct') {
    const values = init as Record<string, unknown>
    const unknown = Object.keys(values).find((name) => !shape.members.some((member) => member.name === name))
    if (unknown !== undefined) throw programError('struct', `The struct has no member "${unknown}"`)
    for (const { name, offset, codec: member } of shape.members) {
      collect(place, member, values[name], at + offset, covered, writes)
    }
  } else if (shape?.kind === 'array') {
    const values = init as readonly unknown[]
    if (values.length > shape.length)
      throw programError('array', `The array has only ${shape.length} elements`)
    values.forEach((value, index) =>
      collect(place, shape.element, value, at + index * shape.element.size, covered, writes),
    )
  } else if (shape?.kind === 'integer') {
    const kind = (shape.bigEndian ? shape.type.replace('u', 'be') : shape.type) as Kind
    const operand = new Value(place.tracer, kind, 0n).term(init as Term<Kind>)
    writes.push(() => storeTo(here, kind, operand))
    cover()
  } else {
    const bytes = init as Bytes | Uint8Array
    writes.push(() => new Bytes(here, codec.size).set(bytes))
    cover()
  }
}
