// Addresses as they are written, in numbers.
import { type CheckContext, refuse } from './check-context.js'
import type { Span } from './error.js'

/** A mask that takes every bit. */
export const ALL_ONES = 0xffff_ffff

/** `area.node`: six bits and ten. */
export function decnetNumber(text: string, at: Span, context: CheckContext): number {
  const parts = /^(\d+)\.(\d+)/.exec(text)
  if (!parts)
    return refuse(context, at, 'XDP_FILTER_MEANING', `"${text}" is no DECnet address`, {
      expected: 'area.node',
    })
  return ((Number(parts[1]) << 10) & 0xfc00) | (Number(parts[2]) & 0x3ff)
}

/** One to four decimal numbers: the upper bytes of an address. */
export function dotted(text: string, at: Span, context: CheckContext): { address: number; bits: number } {
  const parts = text.split('.')
  if (!parts.every((part) => /^\d+$/.test(part) && Number(part) <= 255)) {
    refuse(context, at, 'XDP_FILTER_MEANING', `"${text}" is no IPv4 address`, {
      expected: 'decimal numbers up to 255',
    })
  }
  const bits = parts.length * 8
  const address = parts.reduce((sum, part) => sum * 256 + Number(part), 0) * 2 ** (32 - bits)
  return { address, bits }
}

export const prefixMask = (bits: number): number =>
  bits === 0 ? 0 : (ALL_ONES << (32 - Math.min(bits, 32))) >>> 0

export function wordsOf(bytes: Uint8Array): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  return Array.from({ length: bytes.length / 4 }, (_, index) => view.getUint32(index * 4))
}

/** Six bytes from any of the written forms. */
export function macBytes(text: string): Uint8Array {
  const marked = text.includes(':') || text.includes('-') || /^(?:[0-9A-Fa-f]{1,2}\.){5}/.test(text)
  const parts = marked ? text.split(/[-:.]/) : text.replaceAll('.', '').match(/../g)!
  return Uint8Array.from(parts, (part) => parseInt(part, 16))
}
