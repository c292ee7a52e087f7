// What is counted of a way through a forwarder, and of a stage on it.
import type { SocketStatistics, XdpSocket } from '../xsk/index.js'
import { addUp } from '../xsk/shared-group.js'
import type { StageThread, StageThreadStatistics } from './stage-thread.js'
import type { ForwardWay, StageHandler } from './stage.js'

/**
 * One way's counts, since the forwarder was opened. `rx` is what came in on `from`, `tx` what was put in the TX rings of
 * `to`, `txDropped` what found them full. `frames` are those of the sockets on `from`: to them a frame is `held` while a
 * stage or the other device has it.
 */
export interface ForwardStatistics extends SocketStatistics {
  readonly from: string
  readonly to: string
  /** Packets that stages have dropped, or that were lost with the thread of one. */
  readonly dropped: number
}

/** Adds up what the sockets at both ends of a way count. */
export function wayStatistics(
  { from, to }: ForwardWay,
  dropped: number,
  receiving: readonly XdpSocket[],
  sending: readonly XdpSocket[],
): ForwardStatistics {
  const [rx, tx] = [receiving, sending].map((sockets) =>
    sockets.map((socket) => socket.statistics()).reduce((a, b) => addUp(a, b)),
  )
  const { txInvalidDescriptors, txRingEmpty } = tx.kernel
  return {
    from,
    to,
    dropped,
    ...rx,
    tx: tx.tx,
    txDropped: tx.txDropped,
    wakeups: { rx: rx.wakeups.rx, tx: tx.wakeups.tx },
    kernel: { ...rx.kernel, txInvalidDescriptors, txRingEmpty },
    levels: { ...rx.levels, tx: tx.levels.tx, completion: tx.levels.completion },
  }
}

/** A stage's counts over all ways, since the forwarder was opened. */
export interface StageStatistics {
  /** Its place in `stages`. */
  readonly stage: number
  /** Name of the function, or address of the module. */
  readonly name: string
  /** Packets that it was given: not those that a stage before it has dropped. */
  readonly packets: number
  /** Those of them that it has dropped. */
  readonly dropped: number
  /** Of a stage with a thread. */
  readonly thread?: StageThreadStatistics
}

/** Counts of stages that are functions. `packets` is what the first was given, `droppedBy` has two entries a stage. */
export function functionStatistics(
  stages: readonly StageHandler[],
  packets: number,
  droppedBy: Float64Array,
): StageStatistics[] {
  let left = packets
  return stages.map(({ name }, stage) => {
    const dropped = droppedBy[2 * stage] + droppedBy[2 * stage + 1]
    const given = left
    left -= dropped
    return { stage, name, packets: given, dropped }
  })
}

/** Those of a stage with a thread. */
export function threadStatistics(stage: number, thread: StageThread): StageStatistics {
  return { stage, name: thread.module, ...thread.counts, thread: thread.statistics() }
}
