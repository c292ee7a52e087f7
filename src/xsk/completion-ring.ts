// The completion ring: frames the kernel has finished sending.
import { ConsumerRing } from './consumer-ring.js'

export class CompletionRing extends ConsumerRing {
  /** The address that was put in the TX ring: anywhere inside its frame. */
  address(index: number): number {
    return this.entries[((this.next + index) & this.mask) << 1]
  }
}
