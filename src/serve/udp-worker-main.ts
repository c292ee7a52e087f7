// A worker of a UDP server, inside its thread: from its queue's packets to datagrams, which the user's module is given.
import { Namespace, OptionError, StateError, getInterface } from '../kernel/index.js'
import type { WorkerModule } from '../xsk/index.js'
import { watchChannel } from './network-changes.js'
import { RouteCache } from './route-cache.js'
import { countsOf, dropsOf, sharedCounters } from './udp-counters.js'
import { ServerEndpoint } from './udp-endpoint.js'
import { duplicatePort } from './udp-kernel-sockets.js'
import { UdpListeners } from './udp-listeners.js'
import { UNTOLD } from './udp-program.js'
import { UdpReceiver } from './udp-receiver.js'
import { UdpSender } from './udp-sender.js'
import type { UdpService, UdpTask, UdpWorkerModule, UdpWorkerSetup } from './udp-worker-contract.js'

const start: WorkerModule<UdpWorkerSetup> = async ({ socket, workerData: setup, ...context }) => {
  const { ports, channel } = setup
  const { interface: name, worker } = context
  const module = await load(setup.module)
  const counters = sharedCounters(setup.counters, worker)
  // Ends the thread, as what a worker's handler throws does.
  const fail = (error: Error): never => {
    throw error
  }
  // Every thread looks up its ways itself: what they share is the kernel's tables.
  const namespace = setup.namespace === undefined ? undefined : Namespace.open(setup.namespace)
  const takeLinks = () => {
    const { device, vlans } = routes.links
    if (device) receiver.setLinks(device, vlans)
  }
  // Not the one that the server was opened with, when that is gone and another has its name.
  const { index } = getInterface(name, { namespace })
  const routes: RouteCache = new RouteCache(index, namespace, takeLinks, watchChannel(channel))
  const sender = new UdpSender({ sockets: [socket], routes, counters, fail })
  const listeners = new UdpListeners(UNTOLD, name)
  const { bytes, frameSize } = socket.umem
  const failed = (_: unknown, error: Error) => fail(error)
  const receiver = new UdpReceiver({ bytes, frameSize, zone: name, listeners, counters, sender, failed })
  takeLinks()

  // Set once the module has answered.
  const running: { endpoint?: ServerEndpoint } = {}
  const server: UdpService = {
    ports,
    interface: name,
    counts: countsOf(counters),
    drops: dropsOf(counters),
    send(payload, port, address, from) {
      if (running.endpoint) return running.endpoint.send(payload, port, address, from)
      throw new StateError('The worker does not run yet', 'Send once its module has answered with a handler.')
    },
  }
  const answer = await module({ ...context, workerData: setup.workerData, server })
  const task: UdpTask = typeof answer === 'function' ? { handler: answer } : answer
  if (typeof task?.handler !== 'function')
    throw new OptionError('worker', `The function that ${setup.module} exports returned no handler`)
  // Not before somebody listens: what comes to the kernel's sockets meanwhile is for the other threads.
  running.endpoint = new ServerEndpoint({
    ports,
    kernel: setup.bound.map(duplicatePort),
    listed: setup.listed,
    // The program gives this thread nothing else.
    addresses: () => undefined,
    verifiesChecksums: setup.verifyChecksums,
    counters,
    handler: task.handler,
    sender,
    zone: name,
    fail,
  })
  listeners.add(running.endpoint, [])
  return { handler: receiver.handle, stop: () => task.stop?.() }
}
export default start

async function load(module: string): Promise<UdpWorkerModule> {
  const { default: found } = (await import(module)) as { default?: unknown }
  if (typeof found === 'function') return found as UdpWorkerModule
  throw new OptionError(
    'worker',
    `The module ${module} has no function as its default export`,
    'Export one that takes a UdpWorkerContext and returns a handler of datagrams.',
  )
}
