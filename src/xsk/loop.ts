// What drives a socket: the event loop, or a busy loop.
import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises'
import { KernelError, READABLE, WRITABLE, watchDescriptor } from '../kernel/index.js'
import type { PacketHandler } from './packet.js'
import type { XdpSocket } from './socket.js'

export interface RunOptions {
  /** Ends the run. */
  signal?: AbortSignal
  /** Packets taken at a time. Default: the socket's batch. */
  budget?: number
}

// Batches in one turn of the event loop: enough to keep up, few enough that timers and other sockets run too.
const BATCHES_A_TURN = 16
// Turns in which the kernel would not take a packet that waits to be sent, before we stop asking at every turn.
const PATIENCE = 16
const RETRY_MS = 1
const ETIMEDOUT = 110

/** Runs on readiness: costs no CPU while nothing comes. */
export function runOnEvents(
  socket: XdpSocket,
  handler: PacketHandler,
  signal: AbortSignal,
  options: RunOptions,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let watched = 0
    let blocked = 0
    let timer: NodeJS.Timeout | undefined
    const watcher = watchDescriptor(socket.fd, (status) => {
      if (status < 0) end(socket.takeError())
      else service()
    })
    const end = (error?: Error) => {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      watcher.close()
      if (error === undefined) resolve()
      else reject(error)
    }
    const onAbort = () => end()
    const watch = (events: number) => {
      if (events !== watched) watcher.start((watched = events))
    }
    const service = () => {
      const pending = socket.txPending
      try {
        for (let i = 0; i < BATCHES_A_TURN && !signal.aborted; i++) {
          if (socket.receive(handler, options.budget) === 0) break
        }
      } catch (error) {
        end(error as Error) // what a handler threw is passed on as it is
        return
      }
      if (!signal.aborted) settle(pending)
    }
    // An AF_XDP socket is nearly always writable, so writability is watched only while the kernel owes us
    // something; and when it keeps owing it, on a timer, or the loop would spin.
    const settle = (pendingBefore: number) => {
      const owed = socket.txPending > 0 || socket.starved
      blocked = owed && socket.txPending >= pendingBefore ? blocked + 1 : 0
      const slow = blocked > PATIENCE
      watch(owed && !slow ? READABLE | WRITABLE : READABLE)
      if (slow) timer ??= setTimeout(retry, RETRY_MS)
    }
    const retry = () => {
      timer = undefined
      service()
    }
    signal.addEventListener('abort', onAbort)
    if (signal.aborted) onAbort()
    else service()
  })
}

// Empty polls in a row before the other work of the event loop gets its turn.
const POLLS_A_TURN = 64

/** Runs without waiting: one processor's whole attention, the lowest latency. */
export async function runBusy(
  socket: XdpSocket,
  handler: PacketHandler,
  signal: AbortSignal,
  options: RunOptions,
): Promise<void> {
  while (!signal.aborted) {
    for (let i = 0; i < POLLS_A_TURN && !signal.aborted; i++) {
      if (socket.receive(handler, options.budget) === 0) socket.wake()
    }
    await turn()
  }
}

/** Waits until every frame is back from sending; an error when nothing moves for `timeoutMs`. */
export async function drainSocket(socket: XdpSocket, timeoutMs: number): Promise<void> {
  let left = socket.txOutstanding
  let moved = performance.now()
  for (socket.flush(); socket.txOutstanding > 0; socket.flush()) {
    if (socket.txOutstanding < left) {
      left = socket.txOutstanding
      moved = performance.now()
    } else if (performance.now() - moved > timeoutMs) {
      throw new KernelError('sendto', ETIMEDOUT, {
        about: `${socket.interface} queue ${socket.queue}: ${left} packets not sent in ${timeoutMs} ms`,
        hint: 'Check that the interface is up and that its peer takes packets.',
      })
    }
    await delay(1)
  }
}
