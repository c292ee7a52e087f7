// The RX ring: packets the kernel has received.
import { ConsumerRing } from './consumer-ring.js'

export class RxRing extends ConsumerRing {
  /** Where the first byte of packet `index` is in the UMEM: inside its frame, behind the headroom. */
  address(index: number): number {
    return this.entries[((this.next + index) & this.mask) << 2]
  }

  /** Bytes of packet `index`. */
  length(index: number): number {
    return this.entries[(((this.next + index) & this.mask) << 2) + 2]
  }
}
