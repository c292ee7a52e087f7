// node:dgram over AF_XDP: the same sockets, whose datagrams go past the kernel's network stack where they can.
import { Buffer } from 'node:buffer'
import {
  Socket as KernelSocket,
  type RemoteInfo,
  type SocketOptions as KernelSocketOptions,
} from 'node:dgram'
import { type BlockList, isIPv4, isIPv6 } from 'node:net'
import { OptionError, XdpError, getInterface, listAddresses } from '../kernel/index.js'
import { parseIp } from '../packet/index.js'
import { makeCounters } from './udp-counters.js'
import { UdpInterface, type UdpInterfaceOptions } from './udp-interface.js'
import type { UdpEndpoint } from './udp-listeners.js'
import type { UdpMessage } from './udp-message.js'
import { defaultInterface } from './udp-options.js'

export type { BindOptions, RemoteInfo, SocketType } from 'node:dgram'

/** How XDP is used. What is left out is as `createUdpServer` has it. */
export interface XdpOptions extends Omit<UdpInterfaceOptions, 'interface' | 'namespace'> {
  /**
   * The interface. Default: the one that has the address the socket is bound to; when that is any, the environment's
   * `NODE_XDP_INTERFACE`, or the interface of the default route.
   */
  interface?: string
  /** Go on with the kernel alone, with a warning (process.emitWarning), where XDP cannot be had. Default false: `error` is emitted. */
  optional?: boolean
}

export interface SocketOptions extends KernelSocketOptions {
  xdp?: XdpOptions
  /** Whose datagrams are dropped. Earlier versions of Node than 23.11 do not look at it for what the kernel's socket receives. */
  receiveBlockList?: BlockList
  /** Where nothing is sent: the kernel's socket then sends everything, and Node judges, from 23.11 on. */
  sendBlockList?: BlockList
}

type SendCallback = (error: Error | null, bytes: number) => void

/**
 * A `dgram.Socket` that is the kernel's in everything but its unicast datagrams: those that arrive on the interface are taken by
 * XDP, those that leave by it are written in frames. Everything else, which is loopback, other interfaces, groups, broadcasts, fragments, IP
 * options and names to look up, goes through the kernel's socket as ever, and comes by the same events.
 */
export class Socket extends KernelSocket {
  readonly #options: XdpOptions
  readonly #type: 'udp4' | 'udp6'
  readonly #isDual: boolean
  readonly #blocked: BlockList | undefined
  #xdp: UdpInterface | undefined
  #endpoint: UdpEndpoint | undefined
  #port = 0
  #source: Uint8Array | undefined
  #remote: { address: string; port: number } | undefined
  #isClosed = false
  #isRef = true
  // Set when the kernel alone can send as it was told to.
  #sendsByKernel = false

  constructor(
    options: SocketOptions | 'udp4' | 'udp6',
    listener?: (message: Buffer, sender: RemoteInfo) => void,
  ) {
    const given = typeof options === 'string' ? { type: options } : options
    // What node:dgram makes of a wrong type it says itself.
    super(given as ConstructorParameters<typeof KernelSocket>[0])
    if (typeof listener === 'function') this.on('message', listener)
    this.#options = given.xdp ?? {}
    this.#type = given.type
    this.#isDual = given.type === 'udp6' && given.ipv6Only !== true
    this.#blocked = given.receiveBlockList
    this.#sendsByKernel = given.sendBlockList !== undefined
  }

  /** What was got of XDP; undefined while the socket is not bound, and when the kernel alone serves it. */
  get xdp(): { interface: string; mode: string | undefined; copy: string } | undefined {
    if (!this.#xdp) return undefined
    const { name, group } = this.#xdp
    return { interface: name, mode: group.attachment?.mode, copy: group.sockets[0].copy.got }
  }

  // The kernel's socket listens before ours does: whoever waits for it waits for both.
  override emit(event: string | symbol, ...values: unknown[]): boolean {
    if (event === 'listening' && this.#endpoint === undefined) {
      this.#open().then(
        () => this.#isClosed || super.emit('listening'),
        (error: unknown) => {
          if (this.#isClosed) return
          // It keeps its port, for whoever closes it, and holds no process.
          super.unref()
          super.emit('error', error)
        },
      )
      return true
    }
    if (event === 'connect') this.#remote = this.remoteAddress()
    return super.emit(event, ...values)
  }

  async #open(): Promise<void> {
    const { address, port } = this.address()
    const bound = parseIp(address.replace(/%.*$/, ''))
    const isAny = bound === undefined || bound.every((byte) => byte === 0)
    this.#port = port
    this.#source = isAny ? undefined : bound
    this.#endpoint = {
      ports: [port],
      verifiesChecksums: true,
      addresses: (own) => (isAny ? own.filter((one) => this.#isDual || this.#fits(one)) : [bound]),
      counters: makeCounters(),
      deliver: (message) => this.#deliver(message),
      fail: (error) => {
        this.#leave()
        super.emit('error', error)
      },
      replyElsewhere: () => false,
    }
    try {
      const name = this.#options.interface ?? this.#interfaceOf(isAny ? undefined : bound)
      if (name === undefined) return
      const xdp = await UdpInterface.acquire({ ...this.#options, interface: name })
      if (this.#isClosed) {
        await xdp.release()
        return
      }
      try {
        xdp.add(this.#endpoint)
      } catch (error) {
        await xdp.release()
        throw error
      }
      this.#xdp = xdp
      if (!this.#isRef) xdp.keepAlive(this.#endpoint, false)
    } catch (error) {
      if (!this.#options.optional || !(error instanceof XdpError) || error instanceof OptionError) throw error
      process.emitWarning(`UDP port ${port} is served by the kernel alone: ${error.message}`, {
        type: 'XdpWarning',
        code: error.code,
      })
    }
  }

  #fits(address: Uint8Array): boolean {
    return (address.length === 4) === (this.#type === 'udp4')
  }

  // Undefined where only the kernel can: the programs of this host talk to each other over loopback.
  #interfaceOf(address: Uint8Array | undefined): string | undefined {
    if (address === undefined) return process.env['NODE_XDP_INTERFACE'] ?? defaultInterface()
    const found = listAddresses().find((one) => Buffer.compare(one.address, address) === 0)
    const isLoopback = address.length === 4 ? address[0] === 127 : false
    if (isLoopback) return undefined
    if (!found) return undefined // a group's address
    const { name, loopback } = getInterface(found.ifindex)
    return loopback ? undefined : name
  }

  // ---------------------------------------------------------------- receiving

  #deliver(message: UdpMessage): void {
    const isMapped = this.#type === 'udp6' && message.family === 4
    const address = isMapped ? `::ffff:${message.address}` : message.address
    const family = this.#type === 'udp4' ? 'IPv4' : 'IPv6'
    if (this.#blocked?.check(address, this.#type === 'udp4' ? 'ipv4' : 'ipv6')) return
    const remote = this.#remote
    if (remote && (remote.port !== message.port || remote.address !== address)) return
    const sender: RemoteInfo = {
      address,
      family,
      port: message.port,
      size: message.length,
    }
    try {
      super.emit('message', message.copy(), sender)
    } catch (error) {
      // As from any event of a socket: nobody's to catch here, and no reason to stop.
      setImmediate(() => {
        throw error
      })
    }
  }

  // ---------------------------------------------------------------- sending

  /** As `dgram.Socket.send`, in all its forms. What cannot go in a frame of ours the kernel sends. */
  override send(...values: unknown[]): void {
    if (!this.#sendByXdp(values)) (super.send as (...values: unknown[]) => void)(...values)
  }

  #sendByXdp(values: unknown[]): boolean {
    const xdp = this.#xdp
    if (xdp === undefined || this.#sendsByKernel || this.#isClosed) return false
    const call = this.#remote ? readConnected(values, this.#remote) : readUnconnected(values)
    if (call === undefined) return false
    const { port, address, callback } = call
    if (typeof port !== 'number' || !Number.isInteger(port) || port < 1 || port > 0xffff) return false
    if (typeof address !== 'string' || !(this.#type === 'udp4' ? isIPv4(address) : isIPv6(address)))
      return false
    if (address.startsWith('::ffff:')) return false
    const payload = payloadOf(call.payload)
    if (payload === undefined) return false
    const from = { port: this.#port, source: this.#source, hasKernel: true }
    const outcome = xdp.send(payload, port, address, from)
    // Where our queue is full the kernel's may have room.
    if (outcome === 'kernel' || outcome === 'dropped') return false
    if (callback) process.nextTick(callback, null, payload.length)
    return true
  }

  /** As `dgram.Socket.setTTL`. The kernel sends everything from then on: it knows the value. */
  override setTTL(ttl: number): number {
    const result = super.setTTL(ttl)
    this.#sendsByKernel = true
    return result
  }

  override disconnect(): void {
    super.disconnect()
    this.#remote = undefined
  }

  // ---------------------------------------------------------------- life

  override ref(): this {
    this.#setRef(true)
    return super.ref()
  }

  override unref(): this {
    this.#setRef(false)
    return super.unref()
  }

  #setRef(isRef: boolean): void {
    this.#isRef = isRef
    if (this.#endpoint) this.#xdp?.keepAlive(this.#endpoint, isRef)
  }

  /** As `dgram.Socket.close`. The interface is given back in the background, once what was sent has left. */
  override close(callback?: () => void): this {
    super.close(callback)
    // The kernel's socket closes itself while it is being made when its signal has been aborted: ours is not there yet.
    if (#isClosed in this) {
      this.#isClosed = true
      this.#leave()
    }
    return this
  }

  #leave(): void {
    const xdp = this.#xdp
    this.#xdp = undefined
    if (!xdp || !this.#endpoint) return
    xdp.remove(this.#endpoint)
    xdp.release().catch((error: unknown) => process.emitWarning(error as Error))
  }
}

/** As `dgram.createSocket`, with `xdp` among the options. */
export function createSocket(
  options: SocketOptions | 'udp4' | 'udp6',
  listener?: (message: Buffer, sender: RemoteInfo) => void,
): Socket {
  return new Socket(options, listener)
}

export default { createSocket, Socket }

interface SendCall {
  payload: unknown
  port: unknown
  address: unknown
  callback: SendCallback | undefined
}

// The forms of send, told apart as node:dgram does (lib/dgram.js). Undefined: let it say what is wrong.
function readUnconnected(values: unknown[]): SendCall | undefined {
  const [message, second, third, fourth, fifth, sixth] = values
  const hasRange = Boolean(fifth) || (Boolean(fourth) && typeof fourth !== 'function')
  if (hasRange) {
    const payload = sliceOf(message, second, third)
    return payload && { payload, port: fourth, address: fifth, callback: functionOf(sixth) }
  }
  // An address may be left out: that is loopback, and the kernel's.
  return { payload: message, port: second, address: third, callback: functionOf(fourth) }
}

function readConnected(values: unknown[], remote: { address: string; port: number }): SendCall | undefined {
  const [message, second, third, fourth] = values
  if (typeof third !== 'number') {
    return values.length > 2 ? undefined : { payload: message, ...remote, callback: functionOf(second) }
  }
  if (values.length > 4 || (fourth !== undefined && typeof fourth !== 'function')) return undefined
  const payload = sliceOf(message, second, third)
  return payload && { payload, ...remote, callback: functionOf(fourth) }
}

const functionOf = (value: unknown): SendCallback | undefined =>
  typeof value === 'function' ? (value as SendCallback) : undefined

function sliceOf(message: unknown, offset: unknown, length: unknown): Uint8Array | undefined {
  const whole = typeof message === 'string' ? Buffer.from(message) : bytesOf(message)
  if (!whole || typeof offset !== 'number' || typeof length !== 'number') return undefined
  if (!(offset >= 0 && length >= 0 && offset + length <= whole.length)) return undefined
  return whole.subarray(offset, offset + length)
}

function bytesOf(value: unknown): Uint8Array | undefined {
  if (value instanceof Uint8Array) return value
  return ArrayBuffer.isView(value)
    ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
    : undefined
}

function payloadOf(value: unknown): Uint8Array | undefined {
  if (typeof value === 'string') return Buffer.from(value)
  if (!Array.isArray(value)) return bytesOf(value)
  const parts = value.map((part: unknown) => (typeof part === 'string' ? Buffer.from(part) : bytesOf(part)))
  return parts.every((part) => part !== undefined) ? Buffer.concat(parts) : undefined
}
