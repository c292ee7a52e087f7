// What all headers are: a place in the packet that has been checked, and typed looks at it.
import { Bytes, Field, type Place, checkPlace, further, placeHere } from './memory.js'
import type { Tracer } from './trace.js'
import type { Operand } from './ir.js'
import { type Kind, checkCount } from './kinds.js'

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
  checkCount('length', length)
  place.tracer.needBytes(place.base, place.offset + length)
}

/**
 * The place at an offset that the program computed, 32 bits. Offsets above 32767 end the program with `otherwise` or `verdict`:
 * MAX_PACKET_OFF of kernel/bpf/verifier.c is 65535, the length included.
 */
export function placeAt(tracer: Tracer, offset: Operand, verdict?: bigint): Place {
  // What helpers and functions return, and remainders, are 64 bits to the verifier, whatever they are to us.
  const start = tracer.alu('and', 64, offset, 0xffff_ffffn)
  tracer.unless('<=', 32, start, 0x7fffn, verdict)
  const { packet } = tracer.point
  const base = tracer.alu('add', 64, packet.data, start)
  return placeHere(tracer, 'packet', base, { packet, start })
}
