// A stage's thread: takes descriptors from the stage before, gives the packets to the user's module, and hands them on.
import { setImmediate as turn } from 'node:timers/promises'
import { parentPort, workerData, type MessagePort } from 'node:worker_threads'
import { OptionError } from '../kernel/index.js'
import { Umem, XdpPacket } from '../xsk/index.js'
import { DescriptorRing } from './descriptor-ring.js'
import { DROPPED, JOB_SHIFT, LENGTH_MASK, type StageSetup } from './pipeline.js'
import type { StageModule } from './stage.js'

// Packets before whatever else the module does gets its turn.
const BATCH = 1024

const setup = workerData as StageSetup
const port = parentPort as MessagePort
const input = new DescriptorRing(setup.input)
const output = new DescriptorRing(setup.output)
const umem = Umem.borrow(setup.umem)
const { ways, jobs, stage, stages } = setup
const packets = jobs.map(({ queue }) => new XdpPacket(umem.bytes, umem.view, queue))
let stopping = false
port.once('message', () => (stopping = true))

const loaded = (await import(setup.module)) as { default?: unknown }
const start = loaded.default as StageModule
const handler =
  typeof start === 'function' ? await start({ stage, stages, workerData: setup.workerData, ways }) : undefined
if (typeof handler !== 'function') {
  throw new OptionError(
    'stages',
    `The default export of ${setup.module} returned no stage`,
    'Export a function that takes a StageContext and returns one.',
  )
}
port.postMessage('ready')

while (!stopping) {
  let budget = Math.min(input.level, BATCH)
  if (budget === 0) {
    await input.wait()
    continue
  }
  for (; budget > 0; budget--) {
    const note = input.note
    const job = note >>> JOB_SHIFT
    const packet = packets[job]
    packet.offset = input.address
    packet.length = note & LENGTH_MASK
    packet.frame = packet.offset
    const drops = (note & DROPPED) !== 0 || handler(packet, ways[jobs[job].way]) === 'drop'
    output.push(packet.offset, (job << JOB_SHIFT) | (drops ? DROPPED : 0) | (packet.length & LENGTH_MASK))
    input.release()
  }
  await turn()
}
port.close()
