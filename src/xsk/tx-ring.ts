// The TX ring: packets given to the kernel to send.
import { ProducerRing } from './producer-ring.js'

export class TxRing extends ProducerRing {
  /** Puts a packet in slot `index` of the reservation: `address` is where its first byte is in the UMEM, `length` its bytes. */
  set(index: number, address: number, length: number): void {
    const word = ((this.next + index) & this.mask) << 2
    const entries = this.entries
    entries[word] = address
    entries[word + 2] = length
  }
}
