// Waiting in poll(2): one sleep for all the sockets of a thread that wait so.
import { POLLIN, waiterFor } from '../kernel/descriptor.js'
import { native } from '../kernel/index.js'

/** A run that waits in poll(2), as the others of its thread see it. */
export interface Poller {
  /** The socket's descriptor. */
  readonly fd: number
  /** It has ended: it is asked for nothing any more. A plain property: it is looked at for every batch. */
  isOver: boolean
  /** Before it is served. */
  begin(): void
  /** Gives what is there to its handler, and answers how many batches that were. Does not throw. */
  serve(): number
  /** The kernel owes it something that poll does not tell of. */
  isOwed(): boolean
  /** The thread is about to sleep: the event loop need not watch the socket meanwhile. */
  unwatch(): void
  /** After it was served: what it waits for now is the event loop's to see to. */
  settle(): void
}

// How long the event loop waits for its turn, and how long we wait for packets. A time-out below a tick of the kernel's
// clock (1 to 10 ms) would set a timer at every call, which costs more than the call.
const TURN_MS = 20

// Those of this thread.
const pollers = new Set<Poller>()
// The one there is, if it is alone: going through a set for it would take as long as what it is asked for.
let only: Poller | undefined
let waitForPackets = () => 0
let isPolling = false

/** Has a run polled for, beside the others. */
export function joinPolling(poller: Poller): void {
  pollers.add(poller)
  prepare()
}

export function leavePolling(poller: Poller): void {
  pollers.delete(poller)
  prepare()
}

/** Serves a run once. */
export function serveOne(poller: Poller): void {
  poller.begin()
  poller.serve()
  poller.settle()
}

/** Serves all, until nothing comes, or the event loop has waited for its turn. `first` has something to do. */
export function pollTogether(first: Poller): void {
  // A handler has begun a run: from now on it is among those that are polled for.
  if (isPolling) {
    serveOne(first)
    return
  }
  isPolling = true
  for (const poller of pollers) poller.begin()
  // A failed wait is for the event loop to report.
  for (let isWatched = true; !first.isOver && serveAll(); isWatched = false) {
    // The kernel wakes whoever watches a socket for every frame that it has sent (net/core/sock.c: sock_wfree).
    if (isWatched) for (const poller of pollers) poller.unwatch()
    if (waitForPackets() <= 0) break
  }
  for (const poller of pollers) poller.settle()
  isPolling = false
}

// False when there was nothing, or what there is to wait for is not only packets.
function serveAll(): boolean {
  const poller = only
  if (poller !== undefined) return poller.serve() > 0 && (poller.isOver || !poller.isOwed())
  let batches = 0
  let isOwed = false
  for (const poller of pollers) {
    batches += poller.serve()
    isOwed ||= !poller.isOver && poller.isOwed()
  }
  return batches > 0 && !isOwed
}

function prepare(): void {
  const [first] = pollers
  only = pollers.size === 1 ? first : undefined
  if (first === undefined) waitForPackets = () => 0
  else if (only !== undefined) waitForPackets = waiterFor(only.fd, POLLIN, TURN_MS)
  else waitForPackets = waiterForAll([...pollers].map(({ fd }) => fd))
}

// As `waiterFor`, for several descriptors.
function waiterForAll(fds: readonly number[]): () => number {
  // struct pollfd: fd i32, events u16, revents u16
  const list = new DataView(new ArrayBuffer(8 * fds.length))
  fds.forEach((fd, i) => {
    list.setInt32(8 * i, fd, true)
    list.setUint16(8 * i + 4, POLLIN, true)
  })
  let turnEnd = 0
  return () => {
    const now = performance.now()
    if (turnEnd === 0) turnEnd = now + TURN_MS
    const ready = now < turnEnd ? native.poll(list, TURN_MS) : 0
    if (ready <= 0) turnEnd = 0
    return ready
  }
}
