// What a pass of the optimiser has done.

/** What a pass has done so far. */
export interface Progress {
  changed: boolean
  /** Something else than ways led elsewhere, which alone can go round in circles. */
  rewrote: boolean
}

export function noteRewrite(progress: Progress): void {
  progress.changed = true
  progress.rewrote = true
}
