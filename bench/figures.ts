// What a benchmark answers: figures with their units and where each comes from.

export interface Figure {
  /** What was measured: `recycle`, `receive`. */
  name: string
  /** What it was measured on: `bare rings`, `node-xdp`, `C (libxdp)`. */
  subject: string
  value: number
  /** `ns/packet`, `packets/s`, `bytes`, `%`. */
  unit: string
  /** The figure to reach, where there is one: at most this. */
  target?: number
  /** How it was come by: the process that printed it, rounds, median or best. */
  source: string
}

/** The figures of one benchmark. */
export interface Section {
  title: string
  figures: Figure[]
  /** What has to be said about them, one line each. */
  notes: string[]
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}
