// What an engine counts, over all sources it had.
import type { SourceDrops, SourceMode, SourceStatistics } from './source.js'

/** What an engine counts since it was opened, over all modes it had. */
export interface CaptureStatistics {
  mode: SourceMode
  /** Packets and bytes (on the wire) that came from the kernel. */
  packets: number
  bytes: number
  /** Packets that the consumer was given. */
  processed: number
  /** Packets that wait for the consumer now. */
  waiting: number
  /** Lost, by where: `consumer` is for want of room in the engine's own queue. */
  dropped: SourceDrops & { consumer: number }
  /** Times that packets came together from the kernel. */
  batches: number
  /** Failures of the source or the consumer. */
  errors: number
}

export function noStatistics(): SourceStatistics {
  return { packets: 0, bytes: 0, batches: 0, dropped: { interface: 0, kernel: 0, ring: 0 } }
}

export function addUp(a: SourceStatistics, b: SourceStatistics): SourceStatistics {
  return {
    packets: a.packets + b.packets,
    bytes: a.bytes + b.bytes,
    batches: a.batches + b.batches,
    dropped: {
      interface: a.dropped.interface + b.dropped.interface,
      kernel: a.dropped.kernel + b.dropped.kernel,
      ring: a.dropped.ring + b.dropped.ring,
    },
  }
}
