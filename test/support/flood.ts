// Packets from a worker thread, as fast as the kernel makes them, until stopped.
import { once } from 'node:events'
import type { TestContext } from 'node:test'
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads'
import { BpfProgram } from '../../src/bpf/index.js'
import { exit, mov, r0 } from '../../src/bpf/asm.js'
import { Namespace } from '../../src/kernel/index.js'
import type { LabEnd } from '../../src/lab/index.js'
import { XDP_TX } from '../../src/programs/verdicts.js'

interface FloodData {
  namespace: string
  ifindex: number
  packet: Uint8Array
  /** Non-zero once it is to end; then the rounds done. */
  state: Int32Array
}

// Each round takes the kernel some 20 ms to prepare.
const ROUND = 16384

/** A flood under way. */
export interface Flood {
  /** Packets handed to the device so far. */
  readonly sent: number
  /** Ends it; resolves when the last packet is out. */
  stop(): Promise<void>
}

/** Starts to send copies of `packet` out of an end of a lab. Ends with the test at the latest. */
export function startFlood(t: TestContext, end: LabEnd, packet: Uint8Array): Flood {
  if (!end.namespace) throw new Error('the end has no namespace of its own')
  const state = new Int32Array(new SharedArrayBuffer(8))
  const data: FloodData = { namespace: end.namespace.name, ifindex: end.ifindex, packet, state }
  const worker = new Worker(new URL(import.meta.url), { workerData: { flood: data } })
  const ended = once(worker, 'exit')
  const stop = async () => {
    Atomics.store(state, 0, 1)
    await ended
  }
  t.after(stop)
  return {
    get sent() {
      return Atomics.load(state, 1) * ROUND
    },
    stop,
  }
}

function flood({ namespace: name, ifindex, packet, state }: FloodData): void {
  const namespace = Namespace.open(name)
  const program = BpfProgram.load({ type: 'xdp', name: 'flood', code: [mov(r0, XDP_TX), exit()] })
  while (Atomics.load(state, 0) === 0) {
    try {
      program.runLive({ packet, repeat: ROUND, ingressIfindex: ifindex, namespace })
      Atomics.add(state, 1, 1)
    } catch (error) {
      // The device is down for the moment (ENODEV, EINVAL), or a signal came (EINTR).
      if (!['ENODEV', 'EINVAL', 'EINTR', 'ENETDOWN'].includes((error as { code: string }).code)) throw error
    }
  }
  program.close()
  namespace.close()
  parentPort?.close()
}

const { flood: data } = (isMainThread ? {} : ((workerData as object | null) ?? {})) as { flood?: FloodData }
if (data) flood(data)
