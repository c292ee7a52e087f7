// What is counted of one way through a forwarder.
import type { SocketStatistics, XdpSocket } from '../xsk/index.js'
import { addUp } from '../xsk/shared-group.js'
import type { ForwardWay } from './stage.js'

/**
 * One way's counts, since the forwarder was opened. `rx` is what came in on `from`, `tx` what was put in the TX rings of
 * `to`, `txDropped` what found them full. `frames` are those of the sockets on `from`: to them a frame is `held` while a
 * stage or the other device has it.
 */
export interface ForwardStatistics extends SocketStatistics {
  readonly from: string
  readonly to: string
  /** Packets that stages have dropped. */
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
