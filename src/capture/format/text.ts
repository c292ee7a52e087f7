// Text on its way out: UTF-8 in memory that is used again, where strings would be garbage that outlives many packets.

/** Bytes that the text of a character takes at most (UTF-16 code units to UTF-8). */
const MOST_OF_A_UNIT = 3

/** Text of any length, in the order it is added. Memory that it grew by for a long text stays. */
export class TextBuffer {
  /** The text is in `bytes[0 .. length)`; another array once it has grown. */
  bytes: Buffer
  length = 0

  /** `capacity`: bytes of text that there is room for from the beginning; memory is taken as it is written. */
  constructor(capacity: number) {
    this.bytes = Buffer.allocUnsafeSlow(capacity)
  }

  add(text: string): void {
    const bytes = this.reserve(text.length * MOST_OF_A_UNIT)
    this.length += bytes.write(text, this.length)
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

  #grow(end: number): Buffer {
    const bytes = Buffer.allocUnsafeSlow(end + (end >>> 1))
    this.bytes.copy(bytes, 0, 0, this.length)
    return (this.bytes = bytes)
  }
}
