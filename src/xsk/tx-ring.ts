// The TX ring: packets given to the kernel to send.
import { ProducerRing } from './producer-ring.js'
import { XDP_PKT_CONTD } from './uapi.js'

/** A ring of packets in one frame each. The options of its descriptors are 0, as the kernel made them. */
export class TxRing extends ProducerRing {
  /** Puts a packet in slot `index` of the reservation: `address` is where its first byte is in the UMEM, `length` its bytes. */
  set(index: number, address: number, length: number): void {
    const word = ((this.next + index) & this.mask) << 2
    const entries = this.entries
    entries[word] = address
    entries[word + 2] = length
  }
}

/** A ring whose packets may go on in the next slot: a class of its own, because writing the options costs 0.7 ns a packet. */
export class FragmentTxRing extends TxRing {
  override set(index: number, address: number, length: number): void {
    super.set(index, address, length)
    this.entries[(((this.next + index) & this.mask) << 2) + 3] = 0
  }

  /** Says that the packet in slot `index` goes on in the next one. */
  setContinued(index: number): void {
    this.entries[(((this.next + index) & this.mask) << 2) + 3] = XDP_PKT_CONTD
  }
}
