// What was read of a capture file and is not consumed: chunks of any size in, whole records out, memory bounded.

const FIRST_SIZE = 65536

/** The bytes at hand. Grows to hold one record and one chunk, no further. */
export class CaptureInput {
  /** The unread bytes are `bytes[start .. end)`. Replaced when it grows: read it anew after every `room` and `push`. */
  bytes: Uint8Array = new Uint8Array(FIRST_SIZE)
  start = 0
  end = 0
  /** Where `start` is in the file. */
  position = 0
  /** Bytes still to come that nobody wants. */
  #skipping = 0

  /** Unread bytes. */
  get length(): number {
    return this.end - this.start
  }

  /** Whether the last `skip` waits for bytes to come. */
  get skipping(): boolean {
    return this.#skipping > 0
  }

  /** Takes a copy of `chunk`. Invalidates what was read in place before. */
  push(chunk: Uint8Array): void {
    this.room(chunk.length).set(chunk)
    this.filled(chunk.length)
  }

  /** A place to read at least `size` more bytes into; tell `filled` how many. Invalidates what was read in place before. */
  room(size: number): Uint8Array {
    const unread = this.length
    if (this.bytes.length - this.end < size) {
      if (unread + size <= this.bytes.length) {
        this.bytes.copyWithin(0, this.start, this.end)
      } else {
        const larger = new Uint8Array(Math.max(unread + size, Math.min(2 * this.bytes.length, 1 << 21)))
        larger.set(this.bytes.subarray(this.start, this.end))
        this.bytes = larger
      }
      this.start = 0
      this.end = unread
    }
    return this.bytes.subarray(this.end)
  }

  /** `count` bytes were put into the last `room`. */
  filled(count: number): void {
    this.end += count
    if (this.#skipping > 0) this.skip(0)
  }

  /** Steps over `count` bytes, of which some may not be there yet. */
  skip(count: number): void {
    const wanted = this.#skipping + count
    const now = Math.min(wanted, this.length)
    this.start += now
    this.position += now
    this.#skipping = wanted - now
  }
}
