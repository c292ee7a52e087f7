// What drives a data path: the event loop, or a busy loop.
import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises'
import { ETIMEDOUT } from '../kernel/errno.js'
import { READABLE, WRITABLE, watchDescriptor } from '../kernel/index.js'
import type { DataPath } from './data-path.js'
import type { PacketHandler } from './packet.js'
import { joinPolling, leavePolling, pollTogether, serveOne, type Poller } from './polling.js'

export interface RunOptions {
  /** Ends the run. */
  signal?: AbortSignal | undefined
  /** Packets taken at a time. Default: the socket's batch. */
  budget?: number | undefined
  /**
   * How to wait for packets. Default `event-loop`: whatever else this thread does runs between two batches. `poll`:
   * while packets flow, the thread itself sleeps in poll(2), for all of its sockets that wait so, which saves some
   * microseconds of each wake-up; timers, promises and its other sockets then wait up to 20 ms. When no packets come, both
   * wait on the event loop.
   */
  wait?: 'event-loop' | 'poll' | undefined
  /**
   * Filled, for as long as the run lasts, with what keeps the event loop alive for it: `unref` each one to let the process
   * end when nothing else is left to do. A busy-polling run always keeps it alive.
   */
  handles?: Set<LoopHandle> | undefined
}

/** Something that keeps the event loop alive, or not. */
export interface LoopHandle {
  ref(): unknown
  unref(): unknown
}

/** What a loop drives, and until when. */
export interface Run {
  path: DataPath
  /** The socket's descriptor, to wait on. */
  fd: number
  /** The error that the kernel reports on the descriptor. */
  takeError: () => Error
  handler: PacketHandler
  budget: number | undefined
  wait: RunOptions['wait']
  handles?: RunOptions['handles']
  signal: AbortSignal
}

// Batches in one turn of the event loop: enough to keep up, few enough that timers and other sockets run too.
const BATCHES_A_TURN = 16
// Turns in which the kernel would not take a packet that waits to be sent, before we stop asking at every turn.
const PATIENCE = 16
const RETRY_MS = 1
// How long to wait for frames that are being sent before another look after them, when no packet comes meanwhile.
const FIRST_RECLAIM_MS = 1
const LAST_RECLAIM_MS = 64
// A device that goes away leaves its sockets unbound, and poll says nothing of an unbound one (net/xdp/xsk.c: xsk_poll).
const LOOK_MS = 1000

/** Runs on readiness: costs no CPU while nothing comes. */
export function runOnEvents({
  path,
  fd,
  takeError,
  handler,
  budget,
  wait: way,
  handles,
  signal,
}: Run): Promise<void> {
  return new Promise((resolve, reject) => {
    let watched = 0
    let blocked = 0
    let pending = 0
    let batches = 0
    let serving = false
    // `signal.aborted` is a getter: this is looked at for every batch.
    let isAborted = false
    let timer: NodeJS.Timeout | undefined
    // Nothing tells of completions. Frames that were sent outside of a batch would be away until the next packet comes.
    let reclaimTimer: NodeJS.Timeout | undefined
    let pause = FIRST_RECLAIM_MS
    const reclaim = () => {
      reclaimTimer = undefined
      if (path.closed) return
      pause = Math.min(pause * 2, LAST_RECLAIM_MS)
      try {
        path.flush()
      } catch (error) {
        end(error as Error)
        return
      }
      if (path.txOutstanding === 0) pause = FIRST_RECLAIM_MS
    }
    path.onOutstanding = () => {
      reclaimTimer ??= setTimeout(reclaim, pause).unref()
    }
    const watcher = watchDescriptor(fd, (status) => {
      if (status < 0) end(takeError())
      else service()
    })
    const look = setInterval(() => {
      try {
        path.wake()
      } catch (error) {
        end(error as Error)
      }
    }, LOOK_MS)
    handles?.add(watcher).add(look)
    const end = (error?: Error) => {
      if (poller.isOver) return
      poller.isOver = true
      leavePolling(poller)
      handles?.delete(watcher)
      handles?.delete(look)
      clearInterval(look)
      clearTimeout(timer)
      clearTimeout(reclaimTimer)
      path.onOutstanding = undefined
      signal.removeEventListener('abort', onAbort)
      watcher.close()
      if (error === undefined) resolve()
      else reject(error)
    }
    // A handler that stops the run may still throw: the end of its batch is the end.
    const onAbort = () => {
      isAborted = true
      if (!serving) end()
    }
    // The kernel has packets to send, or all frames.
    const isOwed = () => path.txPending > 0 || path.starved
    const poller: Poller = {
      fd,
      isOver: false,
      begin() {
        pending = path.txPending
      },
      serve() {
        batches = 0
        serving = true
        try {
          while (batches < BATCHES_A_TURN && !isAborted && path.receive(handler, budget) > 0) batches++
        } catch (error) {
          end(error as Error) // what a handler threw is passed on as it is
        } finally {
          serving = false
        }
        if (isAborted) end()
        return batches
      },
      // What waits in the ring comes before that.
      isOwed: () => batches < BATCHES_A_TURN && isOwed(),
      unwatch() {
        if (poller.isOver || watched === 0) return
        watcher.stop()
        watched = 0
      },
      settle() {
        if (!poller.isOver) wait(pending)
      },
    }
    const service = () => {
      if (way === 'poll') pollTogether(poller)
      else serveOne(poller)
    }
    // An AF_XDP socket is nearly always writable, so writability is watched only while the kernel owes us
    // something; and when it keeps owing it, on a timer, or the loop would spin.
    const wait = (pendingBefore: number) => {
      const owed = isOwed()
      blocked = owed && path.txPending >= pendingBefore ? blocked + 1 : 0
      const patient = blocked <= PATIENCE
      const events = owed && patient ? READABLE | WRITABLE : READABLE
      if (events !== watched) watcher.start((watched = events))
      if (!patient) timer ??= setTimeout(retry, RETRY_MS)
    }
    const retry = () => {
      timer = undefined
      service()
    }
    signal.addEventListener('abort', onAbort)
    if (signal.aborted) {
      onAbort()
      return
    }
    if (way === 'poll') joinPolling(poller)
    service()
  })
}

// Empty polls in a row before the other work of the event loop gets its turn.
const POLLS_A_TURN = 64

/** Runs without waiting: one processor's whole attention, the lowest latency. */
export async function runBusy({ path, handler, budget, signal }: Run): Promise<void> {
  while (!signal.aborted) {
    for (let i = 0; i < POLLS_A_TURN && !signal.aborted; i++) {
      if (path.receive(handler, budget) === 0) path.wake()
    }
    await turn()
  }
}

/** Waits until every frame is back from sending; an error when nothing moves for `timeoutMs`. */
export async function drain(path: DataPath, timeoutMs: number): Promise<void> {
  let left = path.txOutstanding
  let moved = performance.now()
  for (path.flush(); path.txOutstanding > 0; path.flush()) {
    if (path.txOutstanding < left) {
      left = path.txOutstanding
      moved = performance.now()
    } else if (performance.now() - moved > timeoutMs) {
      throw path.failure(`sendto, after ${left} packets were not sent in ${timeoutMs} ms,`, ETIMEDOUT)
    }
    await delay(1)
  }
}
