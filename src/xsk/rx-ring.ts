// The RX ring: packets the kernel has received.
import { ConsumerRing } from './consumer-ring.js'
import { XDP_PKT_CONTD } from './uapi.js'

export class RxRing extends ConsumerRing {
  /** Where the first byte of packet `index` is in the UMEM: inside its frame, behind the headroom. */
  address(index: number): number {
    return this.entries[((this.next + index) & this.mask) << 2]
  }

  /** Bytes of packet `index`. */
  length(index: number): number {
    return this.entries[(((this.next + index) & this.mask) << 2) + 2]
  }

  /** Whether the packet goes on in the next entry. */
  isContinued(index: number): boolean {
    return (this.entries[(((this.next + index) & this.mask) << 2) + 3] & XDP_PKT_CONTD) !== 0
  }
}
