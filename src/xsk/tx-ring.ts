// The TX ring: packets given to the kernel to send.
import { ProducerRing } from './producer-ring.js'

export class TxRing extends ProducerRing {
  /**
   * Puts a packet in slot `index` of the reservation: `address` is where its first byte is in the UMEM, `length` its bytes. With
   * `options` XDP_PKT_CONTD it goes on in the next slot.
   */
  set(index: number, address: number, length: number, options = 0): void {
    const word = ((this.next + index) & this.mask) << 2
    const entries = this.entries
    entries[word] = address
    entries[word + 2] = length
    entries[word + 3] = options
  }
}
