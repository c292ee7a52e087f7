// Internet checksums that follow a change (RFC 1624), without reading what they cover.
import { Body } from './body.js'
import { type Operand } from './ir.js'
import { KINDS, constant } from './kinds.js'
import { oneStatement, programError } from './location.js'
import { Bytes, type Field, byteLength } from './memory.js'
import { Value } from './value.js'

/** Whose checksum is kept right. */
export interface ChecksumOptions {
  /**
   * `udp`: a checksum of 0 says that there is none, and stays; one that becomes 0 is written as 0xffff (RFC 768). Default `any`:
   * neither.
   */
  protocol?: 'any' | 'udp'
}

/** The most bytes that are exchanged at once: as many as a sum of words can hold for what folds it. */
const MOST = 64

/**
 * Brings a checksum up to date with a part of what it covers that changed from `before` to `after`: ~(~checksum + ~before +
 * after). The sum is the same in either byte order, so nothing is swapped.
 *
 * The part is a field, or bytes (IPv6 addresses): 2 to 64, an even number of them, at an even distance from where the
 * checksum's cover begins. Bytes are read where this is called, so call it before you write them, with the new ones from elsewhere.
 */
export function updateChecksum<K extends 'be16' | 'be32'>(
  checksum: Field<'be16'>,
  before: Value<K>,
  after: Value<K>,
  options?: ChecksumOptions,
): void
export function updateChecksum(
  checksum: Field<'be16'>,
  before: Bytes | Uint8Array,
  after: Bytes | Uint8Array,
  options?: ChecksumOptions,
): void
export function updateChecksum(
  checksum: Field<'be16'>,
  before: Covered,
  after: Covered,
  { protocol = 'any' }: ChecksumOptions = {},
): void {
  const [from, to] = [lengthOf(before), lengthOf(after)]
  if (from !== to) throw programError('bytes', `${from} bytes meet ${to}`)
  if (from % 2 !== 0 || from === 0 || from > MOST) {
    throw programError('bytes', `A checksum follows 2 to ${MOST} bytes, an even number, not ${from}`)
  }
  oneStatement(() => {
    if (protocol === 'any') {
      checksum.set(changed(checksum, before, after))
      return
    }
    const x = new Body<never>(checksum.tracer)
    x.if(checksum.ne(0), () => {
      const sum = changed(checksum, before, after)
      checksum.set(x.select(sum.eq(0), x.value('be16', 0xffff), sum))
    })
  })
}

type Covered = Value<'be16' | 'be32'> | Bytes | Uint8Array

const lengthOf = (covered: Covered): number =>
  covered instanceof Value ? KINDS[covered.kind].bits / 8 : byteLength(covered)

function changed(checksum: Field<'be16'>, before: Covered, after: Covered): Value<'be16'> {
  const { tracer } = checksum
  const alu = (kind: 'add' | 'and' | 'rsh' | 'xor', bits: 32 | 64, a: Operand, b: Operand): number =>
    tracer.alu(kind, bits, a, b)
  const bits = lengthOf(before) === 2 ? 32 : 64
  let sum: Operand = alu('xor', 32, checksum.operand, 0xffffn)
  for (const { operand, kind } of words(checksum, before)) {
    sum = alu('add', bits, sum, alu('xor', 32, operand, kind === 'be16' ? 0xffffn : 0xffff_ffffn))
  }
  for (const { operand } of words(checksum, after)) sum = alu('add', bits, sum, operand)
  // Thirty-three words of 32 bits at most, so that the carries are in after this and the two rounds below.
  if (bits === 64) sum = alu('add', 64, alu('and', 64, sum, 0xffff_ffffn), alu('rsh', 64, sum, 32n))
  for (let round = 0; round < 2; round++)
    sum = alu('add', bits, alu('and', bits, sum, 0xffffn), alu('rsh', bits, sum, 16n))
  return new Value(tracer, 'be16', alu('xor', 32, sum, 0xffffn))
}

/** As few words as there can be. */
function words({ tracer }: Field<'be16'>, covered: Covered): Value<'be16' | 'be32'>[] {
  if (covered instanceof Value) return [covered]
  const parts: Value<'be16' | 'be32'>[] = []
  for (let at = 0; at < covered.length; at += 4) {
    const kind = covered.length - at >= 4 ? 'be32' : 'be16'
    if (covered instanceof Bytes) {
      parts.push(covered.field(at, kind))
      continue
    }
    const view = new DataView(covered.buffer, covered.byteOffset)
    const word = kind === 'be32' ? view.getUint32(at) : view.getUint16(at)
    parts.push(new Value(tracer, kind, constant(kind, word)))
  }
  return parts
}
