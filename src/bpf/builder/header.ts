// What all headers are: a place in the packet that has been checked, and typed looks at it.
import { Bytes, Field, type Place, checkPlace, further } from './memory.js'
import type { Kind } from './kinds.js'

/** A header, at a place whose bytes are known to be in the packet. */
export class Header {
  /** For the builder's own use. */
  readonly place: Place

  constructor(place: Place) {
    this.place = place
  }

  /** The integer at byte `at` of the header. */
  protected field<K extends Kind>(at: number, kind: K): Field<K> {
    return new Field(further(this.place, at), kind)
  }

  protected bytes(at: number, length: number): Bytes {
    checkPlace(this.place)
    return new Bytes(further(this.place, at), length)
  }

  /** Ends the program with `otherwise` unless `length` bytes from a place are in the packet. */
  protected need(place: Place, length: number): void {
    needAt(place, length)
  }
}

/** Ends the program with `otherwise` unless `length` bytes from a place are in the packet. */
export function needAt(place: Place, length: number): void {
  checkPlace(place)
  place.tracer.needBytes(place.base, place.offset + length)
}
