// Internet checksums that follow a change (RFC 1624), without reading what they cover.
import { type Operand } from './ir.js'
import { KINDS } from './kinds.js'
import type { Field } from './memory.js'
import { Value } from './value.js'

/**
 * Brings a checksum up to date with a field it covers that changed from `before` to `after`: ~(~checksum + ~before + after).
 * The sum is the same in either byte order, so nothing is swapped. A UDP checksum of 0 means none: test it first; and a UDP
 * checksum that becomes 0 has to be written as 0xffff, which is for you to do with `checksum`.
 */
export function updateChecksum<K extends 'be16' | 'be32'>(
  checksum: Field<'be16'>,
  before: Value<K>,
  after: Value<K>,
): void {
  const { tracer } = checksum
  const alu = (kind: 'add' | 'and' | 'rsh' | 'xor', a: Operand, b: Operand): number =>
    tracer.alu(kind, 32, a, b)
  const halves = (operand: Operand): Operand[] =>
    KINDS[before.kind].bits === 16 ? [operand] : [alu('and', operand, 0xffffn), alu('rsh', operand, 16n)]
  let sum: Operand = alu('xor', checksum.operand, 0xffffn)
  const inverted = alu('xor', before.operand, KINDS[before.kind].bits === 16 ? 0xffffn : 0xffff_ffffn)
  for (const half of [...halves(inverted), ...halves(after.operand)]) sum = alu('add', sum, half)
  // Five halves at most: two rounds bring the carries back in.
  for (let round = 0; round < 2; round++) sum = alu('add', alu('and', sum, 0xffffn), alu('rsh', sum, 16n))
  checksum.set(new Value(tracer, 'be16', alu('xor', sum, 0xffffn)))
}
