// Sends by live-frame runs: the kernel itself makes the packets, on a thread that does nothing else.
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { OptionError, XdpError, inNamespace, requireKernel } from '../kernel/index.js'
import type { Order, Sent } from './order.js'
import type { GeneratorShape } from './program.js'

/** What the thread is given. */
export interface KernelSenderData {
  templates: readonly { packet: Uint8Array; shape: GeneratorShape }[]
  count: number
  seconds: number
  /** Packets a run. */
  chunk: number
  /** See `STATE`. */
  state: SharedArrayBuffer
}

/** What it says at its end: nothing, or what went wrong. */
export interface KernelSenderFailure {
  message: string
  code: string
  hint: string | undefined
}

/** Doubles of the shared state: non-zero to stop; packets and bytes of the runs so far, and how long those took. */
export const STATE = { stop: 0, packets: 1, bytes: 2, seconds: 3 } as const

// Setting a run up takes some 20 ms, so that a second's worth costs 2 %; and a run cannot be stopped.
const CHUNK_SECONDS = 1
const LARGEST_CHUNK = 262_144
// A packet waits for its time in the kernel, which does nothing else meanwhile (program.ts).
const SLOWEST = 10_000
const LONGEST_FRAME = 3300
const PROGRESS_MS = 100

/** Sends as `generate` says. */
export async function sendFromKernel(order: Order): Promise<Sent> {
  requireKernel('Live-frame test runs', 5, 18)
  const { rate, flows, firstPort, stream, ifindex, namespace, signal, onProgress } = order
  if (rate > 0 && rate < SLOWEST) {
    throw new OptionError(
      'rate',
      `The kernel does not make as few as ${rate} packets a second`,
      `Use ${SLOWEST} or more, or send from a socket.`,
    )
  }
  const interval = rate === 0 ? 0 : Math.max(1, Math.round(1e9 / rate))
  const state = new Float64Array(new SharedArrayBuffer(4 * Float64Array.BYTES_PER_ELEMENT))
  const workerData: KernelSenderData = {
    templates: order.templates.map(({ bytes, layout }) => {
      if (bytes.length > LONGEST_FRAME) {
        throw new OptionError(
          'size',
          `A frame of ${bytes.length} bytes is too long for the kernel to make`,
          'Send it from a socket.',
        )
      }
      const isTimed = order.seconds < Infinity
      return { packet: bytes, shape: { layout, ifindex, stream, flows, firstPort, interval, isTimed } }
    }),
    count: order.count,
    seconds: order.seconds,
    // Every template has its turn.
    chunk: Math.min(
      LARGEST_CHUNK,
      rate === 0 ? Infinity : rate * CHUNK_SECONDS,
      Math.ceil(order.count / order.templates.length),
    ),
    state: state.buffer,
  }
  const sent = () => ({
    packets: state[STATE.packets],
    bytes: state[STATE.bytes],
    seconds: state[STATE.seconds],
  })
  // A thread is where the one that starts it is.
  const worker = inNamespace(namespace, () => {
    return new Worker(new URL('./kernel-sender-thread.js', import.meta.url), { workerData })
  })
  const stop = () => void (state[STATE.stop] = 1)
  signal?.addEventListener('abort', stop)
  if (signal?.aborted) stop()
  const timer = setInterval(() => onProgress?.(sent()), PROGRESS_MS)
  try {
    const [[failure]] = (await Promise.all([once(worker, 'message'), once(worker, 'exit')])) as [
      [KernelSenderFailure | undefined],
      unknown,
    ]
    if (failure) throw new XdpError(failure.code, failure.message, failure.hint)
    return sent()
  } finally {
    clearInterval(timer)
    signal?.removeEventListener('abort', stop)
  }
}
