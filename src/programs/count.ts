// Packets and bytes, counted by each CPU for itself.
import { counter, struct } from '../bpf/index.js'

/** The value of a per-CPU map. */
export const countValue = struct({ packets: counter, bytes: counter })

/** Packets and their bytes. */
export interface Count {
  readonly packets: number
  readonly bytes: number
}

/** All CPUs together. */
export function sumCounts(values: readonly Count[]): Count {
  const sum = { packets: 0, bytes: 0 }
  for (const { packets, bytes } of values) {
    sum.packets += packets
    sum.bytes += bytes
  }
  return sum
}
