// The same packets through one program from two threads at once, as if they had arrived on two CPUs.
import { once } from 'node:events'
import { Worker, isMainThread, workerData } from 'node:worker_threads'
import { BpfProgram } from '../../src/bpf/index.js'
import { Namespace } from '../../src/kernel/index.js'
import type { LabEnd } from '../../src/lab/index.js'

/** After how many packets the threads wait for each other. */
const TOGETHER = 50

interface TwoCpusData {
  program: number
  live: { namespace: string; ifindex: number } | undefined
  /** The packets in a row, and how long each is. */
  bytes: Uint8Array
  lengths: number[]
  repeat: number
  /** How often a thread has come to a packet. */
  gate: Int32Array
}

/**
 * Sends each packet `repeat` times through the program (by id) from two threads: as live frames of a lab's end, or without one
 * as test runs, which begin sooner. The threads wait for each other now and then, so that both see a new packet at about the
 * same time. Resolves when all are through.
 */
export async function runOnTwoCpus(
  program: number,
  packets: Uint8Array[],
  repeat: number,
  end?: LabEnd,
): Promise<void> {
  const gate = new Int32Array(new SharedArrayBuffer(4))
  const live = end?.namespace && { namespace: end.namespace.name, ifindex: end.ifindex }
  // One piece of memory: cloning thousands of small ones takes long.
  const lengths = packets.map(({ length }) => length)
  const bytes = Uint8Array.from(Buffer.concat(packets))
  const data: TwoCpusData = { program, live, bytes, lengths, repeat, gate }
  const workers = [0, 1].map(() => new Worker(new URL(import.meta.url), { workerData: { twoCpus: data } }))
  // Rejects when a worker throws.
  await Promise.all(workers.map((worker) => once(worker, 'exit')))
}

/** Waits until the other thread has come here as often. */
function meet(gate: Int32Array): void {
  const came = Atomics.add(gate, 0, 1) + 1
  if (came % 2 === 0) Atomics.notify(gate, 0)
  else while (Atomics.load(gate, 0) === came) Atomics.wait(gate, 0, came)
}

function run({ program: id, live, bytes, lengths, repeat, gate }: TwoCpusData): void {
  const namespace = live && Namespace.open(live.namespace)
  const program = BpfProgram.openById(id)
  try {
    let at = 0
    lengths.forEach((length, index) => {
      const packet = bytes.subarray(at, (at += length))
      if (index % TOGETHER === 0) meet(gate)
      if (live && namespace) program.runLive({ packet, repeat, ingressIfindex: live.ifindex, namespace })
      // One by one: for several runs at a time the kernel prepares some 50 ms.
      else for (let run = 0; run < repeat; run++) program.testRun({ packet })
    })
  } finally {
    // Or the other would wait for ever when this one failed.
    Atomics.store(gate, 0, 1 << 30)
    Atomics.notify(gate, 0)
    program.close()
    namespace?.close()
  }
}

const { twoCpus } = (isMainThread ? {} : ((workerData as object | null) ?? {})) as { twoCpus?: TwoCpusData }
if (twoCpus) run(twoCpus)
