// A stage's thread: takes descriptors from the stage before, gives the packets to the user's module, and hands them on.
import { setImmediate as turn } from 'node:timers/promises'
import { parentPort, workerData, type MessagePort } from 'node:worker_threads'
import { OptionError, setAffinity } from '../kernel/index.js'
import { Umem, XdpPacket } from '../xsk/index.js'
import { takeControl } from '../xsk/thread-control.js'
import { DescriptorRing } from './descriptor-ring.js'
import { DROPPED, JOB_SHIFT, LENGTH_MASK, STAGE_COUNTER, type StageSetup } from './stage-setup.js'
import type { StageHandler, StageModule, StageTask } from './stage.js'

// Packets handed on together: few, so that the next stage begins early, and enough to share the cost of telling it.
const BATCH = 32
// How long whatever else the module does waits for its turn while packets flow.
const TURN_MS = 20

const { module, umem: description, cpu, counters, control, ...setup } = workerData as StageSetup
const { ways, jobs } = setup

if (cpu !== undefined) setAffinity([cpu])
const input = new DescriptorRing(setup.input)
const output = new DescriptorRing(setup.output)
const umem = Umem.borrow(description)
const frameMask = ~(umem.frameSize - 1)
const packets = jobs.map(({ queue }) => new XdpPacket(umem.bytes, umem.view, queue))
const { signal, ready } = takeControl(control)
signal.addEventListener('abort', () => input.wake())

const task = await load()
const { handler } = task
ready()

let turnAt = performance.now()
let isFlowing = false
while (!signal.aborted) {
  const count = Math.min(input.level, BATCH)
  if (count > 0) {
    serve(handler, count)
    isFlowing = true
  } else if (isFlowing) {
    // A thread that sleeps by itself wakes up sooner and cheaper than by way of its event loop.
    counters[STAGE_COUNTER.sleeps]++
    isFlowing = input.sleep(TURN_MS)
  } else {
    counters[STAGE_COUNTER.sleeps]++
    await input.wait()
  }
  if (performance.now() - turnAt < TURN_MS) continue
  await turn()
  turnAt = performance.now()
}
await task.stop?.()
// Whatever else the module keeps open does not keep the thread.
process.exit(0)

/** Gives the first packets to the stage. One that was dropped before passes it by, so that all stay in order. */
function serve(handler: StageHandler, count: number): void {
  let seen = 0
  output.begin(count)
  for (let i = 0; i < count; i++) {
    const note = input.note(i)
    const address = input.address(i)
    if ((note & DROPPED) !== 0) {
      output.set(i, address, note)
      continue
    }
    seen++
    const job = note >>> JOB_SHIFT
    const packet = packets[job]
    const frame = (address & frameMask) >>> 0
    packet.offset = address
    packet.length = note & LENGTH_MASK
    packet.frame = frame
    if (handler(packet, ways[jobs[job].way]) === 'drop') {
      counters[STAGE_COUNTER.dropped]++
      output.set(i, address, note | DROPPED)
      continue
    }
    const { offset, length } = packet
    if (!(length > 0 && offset >= frame && offset + length <= frame + umem.frameSize)) {
      throw new OptionError('length', `${length} bytes from ${offset} are not a packet within its frame`)
    }
    output.set(i, offset, (job << JOB_SHIFT) | length)
  }
  // Before the others hear of it: counts then never lag behind what has come out.
  counters[STAGE_COUNTER.packets] += seen
  counters[STAGE_COUNTER.batches]++
  output.commit()
  input.release(count)
}

/** What the user's module does with packets. */
async function load(): Promise<StageTask> {
  const loaded = (await import(module)) as { default?: unknown }
  const { stage, stages, workerData } = setup
  const context = { stage, stages, workerData, ways, port: parentPort as MessagePort, signal }
  const start = loaded.default as StageModule
  const answer = typeof start === 'function' ? await start(context) : undefined
  const task = typeof answer === 'function' ? { handler: answer } : answer
  if (typeof task?.handler === 'function') return task
  throw new OptionError(
    'stages',
    `The default export of ${module} returned no stage`,
    'Export a function that takes a StageContext and returns one.',
  )
}
