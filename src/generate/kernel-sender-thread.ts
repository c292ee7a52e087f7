// The thread of the kernel's sender: one live-frame run after the other.
import { parentPort, workerData } from 'node:worker_threads'
import { createMap, type LoadedXdp } from '../bpf/builder/index.js'
import { XdpError } from '../kernel/index.js'
import { STATE, type KernelSenderData, type KernelSenderFailure } from './kernel-sender.js'
import { defineGenerator, stateMap } from './program.js'
import { monotonicNow } from './stamp.js'

function send({ templates, count, seconds, chunk, state: shared }: KernelSenderData): void {
  const state = new Float64Array(shared)
  // The templates count on where the one before stopped.
  const numbers = createMap(stateMap)
  const runs: { packet: Uint8Array; loaded: LoadedXdp }[] = []
  try {
    for (const { packet, shape } of templates) {
      runs.push({ packet, loaded: defineGenerator(shape).load({ maps: { [stateMap.name]: numbers } }) })
    }
    const start = performance.now()
    const end = start + seconds * 1e3
    if (seconds < Infinity)
      numbers.update(0, { sequence: 0n, due: 0n, end: BigInt(Math.round(monotonicNow() + seconds * 1e9)) })
    for (let turn = 0; state[STATE.stop] === 0 && performance.now() < end; turn++) {
      const repeat = Math.min(chunk, count - state[STATE.packets])
      if (repeat <= 0) break
      const { packet, loaded } = runs[turn % runs.length]
      loaded.program.runLive({ packet, repeat })
      // Fewer than asked for when the time was up in the middle.
      const packets = Number(numbers.lookup(0)?.sequence ?? 0)
      state[STATE.bytes] += (packets - state[STATE.packets]) * packet.length
      state[STATE.packets] = packets
      state[STATE.seconds] = (performance.now() - start) / 1e3
    }
  } finally {
    for (const { loaded } of runs) loaded.close()
    numbers.close()
  }
}

function failureOf(error: unknown): KernelSenderFailure {
  if (!(error instanceof XdpError)) throw error
  const { message, code, hint } = error
  return { message, code, hint }
}

let failure: KernelSenderFailure | undefined
try {
  send(workerData as KernelSenderData)
} catch (error) {
  failure = failureOf(error)
}
parentPort?.postMessage(failure)
