// The fill ring: frames given to the kernel to receive into.
import { ProducerRing } from './producer-ring.js'

export class FillRing extends ProducerRing {
  /** Puts a frame's address (bytes into the UMEM) in slot `index` of the reservation. */
  set(index: number, address: number): void {
    const word = ((this.next + index) & this.mask) << 1
    this.entries[word] = address
  }
}
