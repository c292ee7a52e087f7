// Text on its way out: UTF-8 in memory that is used again, where strings would be garbage that outlives many packets.
import { viewOf } from '../../packet/bytes.js'

/** Bytes that the text of a character takes at most (UTF-16 code units to UTF-8). */
const MOST_OF_A_UNIT = 3
/** Up to this length a loop is faster than a call. */
const SHORT = 64
/** Digits of the largest number that is written without a string, and of what it is written in. */
const MOST_DIGITS = 10
const BILLION = 1e9

const ZERO = 0x30
const DIGITS = Uint8Array.from('0123456789abcdef', (digit) => digit.charCodeAt(0))

/** Text of any length, in the order it is added. Memory that it grew by for a long text stays. */
export class TextBuffer {
  /** The text is in `bytes[0 .. length)`; another array once it has grown. */
  bytes: Buffer
  /** Of `bytes`. */
  view: DataView
  length = 0

  /** `capacity`: bytes of text that there is room for from the beginning; memory is taken as it is written. */
  constructor(capacity: number) {
    this.bytes = Buffer.allocUnsafeSlow(capacity)
    this.view = viewOf(this.bytes)
  }

  add(text: string): void {
    const { length } = text
    const bytes = this.reserve(length * MOST_OF_A_UNIT)
    const start = this.length
    if (length <= SHORT) {
      let i = 0
      for (; i < length; i++) {
        const unit = text.charCodeAt(i)
        if (unit >= 0x80) break
        bytes[start + i] = unit
      }
      if (i === length) {
        this.length = start + length
        return
      }
    }
    this.length = start + bytes.write(text, start)
  }

  /** As `add(String(value))`, and without a string for whole numbers: V8 remembers those that it makes of numbers. */
  number(value: number): void {
    if ((value | 0) !== value || value < 0) return this.#largeNumber(value)
    const digits =
      value < 10
        ? 1
        : value < 100
          ? 2
          : value < 1000
            ? 3
            : value < 10_000
              ? 4
              : value < 100_000
                ? 5
                : value < 1e6
                  ? 6
                  : value < 1e7
                    ? 7
                    : value < 1e8
                      ? 8
                      : value < BILLION
                        ? 9
                        : MOST_DIGITS
    this.padded(value, digits)
  }

  /** The last `digits` digits of a whole number that is at least 0 and less than 2^31. */
  padded(value: number, digits: number): void {
    const bytes = this.reserve(digits)
    const start = this.length
    let rest = value | 0
    for (let at = start + digits - 1; at >= start; at--) {
      const tenth = (rest / 10) | 0
      bytes[at] = ZERO + rest - tenth * 10
      rest = tenth
    }
    this.length = start + digits
  }

  /** The last `digits` hexadecimal digits of a whole number that is at least 0 and less than 2^32. */
  hex(value: number, digits: number): void {
    const bytes = this.reserve(digits)
    const start = this.length
    for (let i = 0; i < digits; i++) bytes[start + i] = DIGITS[(value >>> (4 * (digits - 1 - i))) & 15]
    this.length = start + digits
  }

  /** Room for so many bytes behind the text, for the caller to fill and to count in `length`. */
  reserve(size: number): Buffer {
    const end = this.length + size
    return end <= this.bytes.length ? this.bytes : this.#grow(end)
  }

  clear(): void {
    this.length = 0
  }

  toString(): string {
    return this.bytes.toString('utf8', 0, this.length)
  }

  #largeNumber(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0) return this.add(String(value))
    const billions = Math.floor(value / BILLION)
    if (billions > 0) {
      this.number(billions)
      this.padded(value - billions * BILLION, 9)
    } else this.add(String(value))
  }

  #grow(end: number): Buffer {
    const bytes = Buffer.allocUnsafeSlow(end + (end >>> 1))
    this.bytes.copy(bytes, 0, 0, this.length)
    this.view = viewOf(bytes)
    return (this.bytes = bytes)
  }
}
