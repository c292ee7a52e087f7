// What a worker of a UDP server is given, and what its thread is started with.
import type { WorkerContext } from '../xsk/index.js'
import type { UdpCounts, UdpDropCounts } from './udp-counters.js'
import type { BoundPort } from './udp-kernel-sockets.js'
import type { UdpHandler } from './udp-options.js'

/** What a server is to its handler, in whatever thread that runs. */
export interface UdpService {
  /** The ports, those that the kernel chose included. */
  readonly ports: readonly number[]
  /** The interface's name. */
  readonly interface: string
  readonly counts: Readonly<UdpCounts>
  readonly drops: Readonly<UdpDropCounts>
  /**
   * Sends a datagram to any address, from the first port or `from`: in a frame of ours when the way there is over the
   * interface and it fits, through the kernel's socket otherwise. Where the next hop is not known the kernel is given the first
   * datagram, which makes it look for it; further ones wait meanwhile, up to 1024. The payload is copied. False when there was no room for it; what happens
   * on the way nobody hears of.
   *
   * Throws `KernelError` EMSGSIZE for what UDP has no room for, or is longer than the MTU when there is no kernel socket;
   * EHOSTUNREACH when only the kernel could send it and there is none; `OptionError` for what is no payload, address or port;
   * `StateError` once the server is closed, and in a worker before its module has answered.
   */
  send(payload: Uint8Array | string, port: number, address: string, from?: number): boolean
}

/** What the module of a UDP server's workers is given: see `WorkerContext`. */
export interface UdpWorkerContext<Data = unknown> extends Omit<WorkerContext<Data>, 'socket'> {
  /** The server, as far as this thread is concerned: what it sends leaves by its queue, and the counts are its own. */
  readonly server: UdpService
}

/** What a worker does with datagrams, when it also has something to do at its end. */
export interface UdpTask {
  handler: UdpHandler
  /** Called once the last datagram was handled, before what was sent is waited for. */
  stop?(): void | Promise<void>
}

/**
 * The default export of the module of a UDP server's workers. It is called once in each thread, and datagrams are given to
 * what it returns. What it or the handler throws ends the thread: another one takes its place.
 */
export type UdpWorkerModule<Data = unknown> = (
  context: UdpWorkerContext<Data>,
) => UdpHandler | UdpTask | Promise<UdpHandler | UdpTask>

/** What the thread of a worker is started with, as its `workerData`. */
export interface UdpWorkerSetup {
  /** Address of the user's module, and what that is given. */
  module: string
  workerData: unknown
  /** Path of the network namespace that the interface is in; undefined for the thread's own. */
  namespace: string | undefined
  /** Where to hear of the network's changes: see `watchChannel`. */
  channel: string
  ports: readonly number[]
  /** The kernel's sockets, which belong to the thread that opened the server: to be duplicated. */
  bound: readonly BoundPort[]
  listed: readonly Uint8Array[] | undefined
  verifyChecksums: boolean
  /** See `sharedCounters`: one array a worker. */
  counters: SharedArrayBuffer
}
