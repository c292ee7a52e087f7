// A netlink socket: one synchronous request at a time, its replies, and the kernel's own words when it refuses.
import { EAGAIN, EINTR, ENOBUFS, EPROTO } from '../errno.js'
import { pollDescriptor, POLLIN, watchDescriptor } from '../descriptor.js'
import { KernelError, check } from '../errors.js'
import { inNamespace, type Namespace } from '../namespace.js'
import { READABLE, native, type NativeWatcher } from '../native.js'
import { concatBytes, decodeAttributes } from './codec.js'

// include/uapi/linux/netlink.h, include/linux/socket.h
const AF_NETLINK = 16
const SOCK_RAW = 3
const SOL_NETLINK = 270
const NETLINK_ROUTE = 0
const NETLINK_GENERIC = 16
const NETLINK_ADD_MEMBERSHIP = 1
const NETLINK_CAP_ACK = 10
const NETLINK_EXT_ACK = 11
const NETLINK_GET_STRICT_CHK = 12
const MSG_PEEK = 0x2
const MSG_TRUNC = 0x20
const MSG_DONTWAIT = 0x40
const NLMSG_HDRLEN = 16
const NLMSG_ERROR = 2
const NLMSG_DONE = 3
const NLM_F_REQUEST = 0x1
const NLM_F_ACK = 0x4
const NLM_F_DUMP_INTR = 0x10
const NLM_F_DUMP = 0x300
const NLM_F_CAPPED = 0x100
const NLM_F_ACK_TLVS = 0x200

const acknowledgement = {
  message: [1, 'string'],
  offset: [2, 'u32'],
  missingType: [5, 'u32'],
} as const

/** How often a dump that the kernel says was disturbed by a change is asked for again. */
const DUMP_ATTEMPTS = 50
/** The kernel answers inside send(2); this bounds the wait for an answer that never comes. */
const ANSWER_TIMEOUT_MS = 5000

/** Which namespace to ask; default: the one the calling thread is in. */
export interface NetlinkOptions {
  namespace?: Namespace | undefined
}

/** One message of an answer. */
export interface NetlinkMessage {
  readonly type: number
  /** What follows the message header: the family's own header, then attributes. A copy. */
  readonly payload: Uint8Array
}

/** A request: `payload` is the family's own header and its attributes. */
export interface NetlinkRequest {
  type: number
  /** The uapi name of the request, for errors: `RTM_NEWLINK`. */
  name: string
  payload: Uint8Array
  /** NLM_F_CREATE, NLM_F_EXCL and the like; REQUEST and ACK are added. */
  flags?: number
  /** What is asked, to stand in an error message. */
  about?: string | undefined
  /** Advice that beats the general one. */
  hint?: string | undefined
}

/** An open netlink socket. It belongs to the namespace it was opened in, wherever it is used. The caller closes it. */
export class NetlinkSocket {
  #fd: number
  #sequence = 1
  #buffer = new Uint8Array(32768)
  #watcher: NativeWatcher | undefined

  private constructor(fd: number) {
    this.#fd = fd
  }

  /** Opens a socket. Throws `KernelError`. Needs no privilege; requests may. */
  static open(protocol: 'route' | 'generic', options: NetlinkOptions = {}): NetlinkSocket {
    const number = protocol === 'route' ? NETLINK_ROUTE : NETLINK_GENERIC
    const fd = inNamespace(options.namespace, () => native.socket(AF_NETLINK, SOCK_RAW, number))
    check(fd, 'socket', { about: `AF_NETLINK ${protocol}` })
    const socket = new NetlinkSocket(fd)
    try {
      const address = new Uint8Array(12)
      address[0] = AF_NETLINK
      check(native.bind(fd, address), 'bind', { about: `AF_NETLINK ${protocol}` })
      // Each makes the kernel more helpful (4.2, 4.12, 4.20); an older one does without.
      const on = new Uint8Array([1, 0, 0, 0])
      for (const option of [NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK]) {
        native.setsockopt(fd, SOL_NETLINK, option, on)
      }
    } catch (error) {
      socket.close()
      throw error
    }
    return socket
  }

  /** Opens a socket for one piece of work and closes it again. */
  static use<T>(
    protocol: 'route' | 'generic',
    options: NetlinkOptions,
    work: (socket: NetlinkSocket) => T,
  ): T {
    const socket = NetlinkSocket.open(protocol, options)
    try {
      return work(socket)
    } finally {
      socket.close()
    }
  }

  /** Asks, and returns the answers that came before the acknowledgement. Throws `KernelError` with what the kernel said. */
  request(request: NetlinkRequest): NetlinkMessage[] {
    return this.#exchange(request, NLM_F_REQUEST | NLM_F_ACK | (request.flags ?? 0)).messages
  }

  /** Asks for a whole table. A dump that a change disturbed is asked for again, so the answer is one moment's. */
  dump(request: NetlinkRequest): NetlinkMessage[] {
    for (let attempt = 0; attempt < DUMP_ATTEMPTS; attempt++) {
      const answer = this.#exchange(request, NLM_F_REQUEST | NLM_F_DUMP | (request.flags ?? 0))
      if (!answer.disturbed) return answer.messages
    }
    throw new KernelError(`netlink ${request.name}`, EINTR, {
      about: request.about,
      hint: 'The table changes faster than it can be read; try again.',
    })
  }

  /**
   * Joins multicast groups and hands on what the kernel announces there, on this thread's event loop, until `close`.
   * `onLost` is called when the kernel announced more than the socket could keep: what was missed has to be read anew.
   * The event loop does not stay alive for it. Make no requests on a socket that has subscribed.
   */
  subscribe(
    groups: readonly number[],
    { onMessage, onLost }: { onMessage: (message: NetlinkMessage) => void; onLost: () => void },
  ): void {
    for (const group of groups) {
      const option = new Uint8Array(Uint32Array.of(group).buffer)
      const result = native.setsockopt(this.#fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, option)
      check(result, 'setsockopt(NETLINK_ADD_MEMBERSHIP)', { about: `group ${group}` })
    }
    this.#watcher = watchDescriptor(this.#fd, () => {
      // A handler may close the socket.
      while (this.#fd >= 0) {
        const length = native.recv(this.#fd, this.#buffer, MSG_DONTWAIT | MSG_TRUNC)
        if (length === -EINTR) continue
        if (length === -EAGAIN) return
        if (length === -ENOBUFS || length > this.#buffer.length) {
          onLost()
          continue
        }
        check(length, 'recv', { about: 'AF_NETLINK' })
        for (const { type, payload } of splitMessages(this.#buffer.slice(0, length)))
          onMessage({ type, payload })
      }
    })
    this.#watcher.start(READABLE)
    this.#watcher.unref()
  }

  /** Closing twice is harmless. */
  close(): void {
    if (this.#fd < 0) return
    this.#watcher?.close()
    this.#watcher = undefined
    native.close(this.#fd)
    this.#fd = -1
  }

  #exchange(request: NetlinkRequest, flags: number): { messages: NetlinkMessage[]; disturbed: boolean } {
    const context = { about: request.about, hint: request.hint }
    const sequence = this.#sequence
    this.#sequence = (this.#sequence % 0x7fffffff) + 1
    check(native.send(this.#fd, frame(request, flags, sequence), 0), `netlink ${request.name}`, context)

    const messages: NetlinkMessage[] = []
    let disturbed = false
    for (;;) {
      for (const message of splitMessages(this.#receive(request))) {
        // An answer to an earlier request that was given up is not ours.
        if (message.sequence !== sequence) continue
        disturbed ||= (message.flags & NLM_F_DUMP_INTR) !== 0
        if (message.type === NLMSG_ERROR || message.type === NLMSG_DONE) {
          const { errno, said } = readVerdict(message)
          if (errno !== 0) throw new KernelError(`netlink ${request.name}`, errno, { ...context, said })
          return { messages, disturbed }
        }
        messages.push({ type: message.type, payload: message.payload.slice() })
      }
    }
  }

  // Asks for the length first, so that no message is ever cut.
  #receive(request: NetlinkRequest): Uint8Array {
    const name = `netlink ${request.name}`
    const length = this.#retry(name, () =>
      native.recv(this.#fd, this.#buffer, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT),
    )
    if (length > this.#buffer.length) this.#buffer = new Uint8Array(length)
    const received = this.#retry(name, () => native.recv(this.#fd, this.#buffer, MSG_DONTWAIT))
    return this.#buffer.subarray(0, received)
  }

  #retry(name: string, call: () => number): number {
    for (;;) {
      const result = call()
      if (result === -EINTR) continue
      if (result !== -EAGAIN) return check(result, name)
      if (pollDescriptor(this.#fd, POLLIN, ANSWER_TIMEOUT_MS) === 0) {
        throw new KernelError(name, EPROTO, { said: 'the kernel gave no answer' })
      }
    }
  }
}

function frame(request: NetlinkRequest, flags: number, sequence: number): Uint8Array {
  const header = new DataView(new ArrayBuffer(NLMSG_HDRLEN))
  header.setUint32(0, NLMSG_HDRLEN + request.payload.length, true)
  header.setUint16(4, request.type, true)
  header.setUint16(6, flags, true)
  header.setUint32(8, sequence, true)
  return concatBytes([new Uint8Array(header.buffer), request.payload])
}

/** A message as it stands in a datagram. */
export interface RawMessage {
  readonly type: number
  readonly flags: number
  readonly sequence: number
  /** A view into the datagram. */
  readonly payload: Uint8Array
}

/** Walks the messages of a datagram; stops at the first that does not fit. */
export function* splitMessages(datagram: Uint8Array): Generator<RawMessage> {
  const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.byteLength)
  let offset = 0
  while (offset + NLMSG_HDRLEN <= datagram.length) {
    const length = view.getUint32(offset, true)
    if (length < NLMSG_HDRLEN || length > datagram.length - offset) return
    yield {
      type: view.getUint16(offset + 4, true),
      flags: view.getUint16(offset + 6, true),
      sequence: view.getUint32(offset + 8, true),
      payload: datagram.subarray(offset + NLMSG_HDRLEN, offset + length),
    }
    offset += (length + 3) & ~3
  }
}

/**
 * Reads an acknowledgement (`struct nlmsgerr`) or the end of a dump: errno (0 for success) and what the
 * kernel said of it. Both carry attributes when NLM_F_ACK_TLVS is set; an acknowledgement repeats the
 * request in between, its header only when NLM_F_CAPPED is set.
 */
export function readVerdict(message: RawMessage): { errno: number; said: string | undefined } {
  const { payload, flags } = message
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength)
  // A dump's end without a code is a success; an acknowledgement without one is no answer at all.
  if (payload.length < 4) return { errno: message.type === NLMSG_DONE ? 0 : EPROTO, said: undefined }
  const errno = Math.abs(view.getInt32(0, true))
  if (errno === 0 || (flags & NLM_F_ACK_TLVS) === 0) return { errno, said: undefined }
  let offset = 4
  if (message.type === NLMSG_ERROR && payload.length >= 8) {
    const requestLength = flags & NLM_F_CAPPED ? NLMSG_HDRLEN : view.getUint32(4, true)
    offset += (Math.min(requestLength, payload.length) + 3) & ~3
  }
  const words = decodeAttributes(acknowledgement, payload.subarray(Math.min(offset, payload.length)))
  if (words.message !== undefined) return { errno, said: words.message }
  if (words.missingType !== undefined) return { errno, said: `attribute ${words.missingType} is missing` }
  return { errno, said: words.offset === undefined ? undefined : `at byte ${words.offset} of the request` }
}
