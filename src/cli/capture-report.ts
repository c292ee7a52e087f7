// What a capture says about itself on standard error: the statistics line, what was lost where, progress.
import type { CaptureStatistics } from '../capture/engine.js'
import type { WriterStatistics } from '../capture/index.js'
import type { SourceMode } from '../capture/source.js'
import { XdpError } from '../kernel/index.js'
import type { InterfaceStatistics } from '../packet/pcapng-layout.js'
import type { Time } from '../packet/pcap-time.js'
import type { KernelStatistics } from '../xsk/index.js'

/** What the modes are called in the statistics line. */
const NAMES: Record<SourceMode, string> = {
  divert: 'AF_XDP',
  mirror: 'XDP_MIRROR',
  packet: 'AF_PACKET',
  file: 'FILE',
}

/** What the engine counted, and what the output could not take. */
export interface Counts extends CaptureStatistics {
  outputLost: number
  /** Of those the ones that an error kept from being written, and which. */
  outputFailed: number
  failure: Error | undefined
  /** Of `outputLost` those that waited for whoever reads when that was given up. */
  givenUp: number
}

/** All packets that are missing, wherever they were lost. */
export function droppedOf({ dropped, outputLost }: Counts): number {
  return dropped.interface + dropped.kernel + dropped.ring + dropped.consumer + outputLost
}

/** One line, for those who read logs by program. */
export function statisticsLine(counts: Counts): string {
  return (
    `Capture statistics: mode=${NAMES[counts.mode]} packets_received=${counts.packets} bytes_received=${counts.bytes} ` +
    `packets_processed=${counts.processed - counts.outputLost} packets_dropped=${droppedOf(counts)} ` +
    `batches=${counts.batches} errors=${counts.errors}`
  )
}

/** The kernel's own counters of the sockets, in one line of the same kind. */
export function xdpStatisticsLine(kernel: KernelStatistics): string {
  return (
    `XDP statistics: rx_dropped=${kernel.rxDropped} rx_ring_full=${kernel.rxRingFull} ` +
    `fill_ring_empty=${kernel.fillRingEmpty} rx_invalid_descriptors=${kernel.rxInvalidDescriptors}`
  )
}

/** Where packets were lost, as a sentence; undefined when none were. */
export function lossSentence(counts: Counts): string | undefined {
  const { dropped, outputLost, outputFailed, failure, givenUp } = counts
  const why = failure instanceof XdpError ? ` (${failure.code})` : ''
  const places = [
    // First what ends the capture.
    [outputFailed, `because writing failed${why}`],
    [dropped.interface, 'by the interface'],
    [dropped.kernel, "in the kernel's ring"],
    [dropped.ring, 'in the ring buffer of the XDP program'],
    [givenUp, 'because nobody took them before the end'],
    [dropped.consumer + outputLost - outputFailed - givenUp, 'because the output was too slow'],
  ] as const
  const lost = places.filter(([count]) => count > 0).map(([count, where]) => `${count} ${where}`)
  return lost.length === 0 ? undefined : `lost ${lost.join(', ')}`
}

/**
 * What a pcapng file says of its interface at its end. Delivered are the packets that are in the file, or those before it: what
 * came after the last one that was asked for is in none. `begin` is when packets began to be caught, `Date.now()`.
 */
export function fileStatistics(
  { packets, dropped }: CaptureStatistics,
  { given, lost }: Readonly<WriterStatistics>,
  begin: number,
): InterfaceStatistics {
  // The millisecond's end: no packet is later.
  const end = timeOf(Date.now() + 1)
  const systemDropped = dropped.kernel + dropped.ring
  return {
    ...end,
    start: timeOf(begin),
    end,
    received: packets + systemDropped,
    interfaceDropped: dropped.interface,
    systemDropped,
    delivered: given - lost,
  }
}

function timeOf(milliseconds: number): Time {
  return { seconds: Math.floor(milliseconds / 1000), nanoseconds: (milliseconds % 1000) * 1e6 }
}

const PROGRESS_MS = 250

/** How far it is, on one line of a terminal that is written over; nothing elsewhere. */
export class Progress {
  readonly #timer: NodeJS.Timeout | undefined
  #isShown = false

  constructor(read: () => Counts, isWanted: boolean) {
    if (!isWanted) return
    this.#timer = setInterval(() => {
      const counts = read()
      const missing = droppedOf(counts)
      const rest = missing > 0 ? `, ${missing.toLocaleString('en-US')} lost` : ''
      process.stderr.write(
        `\r\x1b[K${counts.processed.toLocaleString('en-US')} packets, ${counts.bytes.toLocaleString('en-US')} bytes${rest}`,
      )
      this.#isShown = true
    }, PROGRESS_MS).unref()
  }

  /** Makes room for a line of log. */
  clear(): void {
    if (this.#isShown) process.stderr.write('\r\x1b[K')
    this.#isShown = false
  }

  close(): void {
    clearInterval(this.#timer)
    this.clear()
  }
}
