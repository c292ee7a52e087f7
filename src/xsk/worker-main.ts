// A worker's thread: takes over the socket it was started for and gives its packets to the user's module.
import { parentPort, workerData, type MessagePort } from 'node:worker_threads'
import { OptionError, setAffinity } from '../kernel/index.js'
import { XdpSocket } from './socket.js'
import { takeControl } from './thread-control.js'
import type { WorkerModule, WorkerSetup, WorkerTask } from './worker-contract.js'

const {
  module,
  socket: description,
  beside,
  counters,
  cpu,
  run,
  control,
  ...rest
} = workerData as WorkerSetup

if (cpu !== undefined) setAffinity([cpu])
const { signal, ready } = takeControl(control)

const loaded = (await import(module)) as { default?: unknown }
if (typeof loaded.default !== 'function') {
  throw new OptionError(
    'worker',
    `The module ${module} has no function as its default export`,
    'Export one that takes a WorkerContext and returns a packet handler.',
  )
}
const socket = XdpSocket.adopt(description, counters, beside)
const answer = await (loaded.default as WorkerModule)({
  ...rest,
  socket,
  interface: socket.interface,
  queue: socket.queue,
  port: parentPort as MessagePort,
  signal,
})
const task: WorkerTask = typeof answer === 'function' ? { handler: answer } : answer
if (typeof task?.handler !== 'function') {
  throw new OptionError('worker', `The function that ${module} exports returned no packet handler`)
}
ready()
await socket.run(task.handler, { ...run, signal })
// The group has seen to it that no more come. A module that stops its socket by itself has had enough.
if (signal.aborted) while (socket.receive(task.handler) > 0);
await task.stop?.()
// What cannot be sent now, because the device is down, say, is lost with the socket.
await socket.drain().catch(() => undefined)
// Whatever else the module keeps open does not keep the thread.
process.exit(0)
