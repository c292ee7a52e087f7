// The datagram a handler sees: one reused cursor, never a copy.
import { StateError } from '../kernel/index.js'
import { IPV4_AT, IPV6_AT, formatIpv4, formatIpv6 } from '../packet/index.js'

/** What a message needs of whoever delivers it. */
export interface MessageOrigin {
  /** Answers with bytes that do not fit in the frame, or that came in none. False when they were dropped. */
  replyElsewhere(message: UdpMessage, payload: Uint8Array): boolean
}

/** What `UdpMessage.end` answers when there was no reply: the state of a message while it is delivered. */
export const NO_REPLY = -1
// Its other states, beside the length of a reply in place: before and after, and with a reply that is not in place.
const IDLE = -2
const ELSEWHERE = -3

/** Texts of addresses kept. */
const MAX_TEXTS = 1024

/**
 * A received datagram. The object is reused for the next one, and what it gives is valid only until the handler returns:
 * copy what is to be kept.
 */
export class UdpMessage {
  /** The memory that the payload is in, at `offset`, for `length` bytes: a handler may change them. */
  bytes: Uint8Array
  /** The same memory, to read and write numbers. */
  view: DataView
  offset = 0
  length = 0
  /** The sender's port. */
  port = 0
  /** The port it was sent to. */
  localPort = 0
  /** Of the addresses. */
  family: 4 | 6 = 4
  /** The VLAN it came by; -1 for none. */
  vlan = -1
  /** How it came: taken by XDP, or as what XDP leaves to the kernel: fragments, IP options, other interfaces. */
  via: 'xdp' | 'kernel' = 'xdp'
  /** Where the sender's address is in `bytes`: 4 or 16 bytes, as `family` says; -1 for a datagram that came by the kernel. */
  addressAt = -1
  /** Bytes from `offset` that a reply in place may have. */
  room = 0
  // Bytes of the reply in place, or one of the states above.
  #reply = IDLE
  #address: string | undefined
  #origin: MessageOrigin | undefined
  readonly #zone: string
  readonly #text: Buffer
  // Of IPv4, by their bytes as a number: writing one costs several times as much as finding it.
  readonly #texts = new Map<number, string>()

  /** `zone`: of link-local addresses, the interface's name. */
  constructor(bytes: Uint8Array, zone: string) {
    this.bytes = bytes
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#zone = zone
  }

  /** Begins a delivery; `address` is the sender's, where it is in no packet. For the package's own use. */
  begin(origin: MessageOrigin, address?: string): void {
    this.#origin = origin
    this.#address = address
    this.#reply = NO_REPLY
  }

  /** Ends it, and tells how long the reply in place is; negative when there is none, `NO_REPLY` when there is no other. For the package's own use. */
  end(): number {
    const reply = this.#reply
    this.#reply = IDLE
    return reply
  }

  /** Whether it has been replied to, in whatever way. */
  get isReplied(): boolean {
    return this.#reply !== NO_REPLY && this.#reply !== IDLE
  }

  /** The sender's address as text; a link-local one with its zone, as in `fe80::1%eth0`. Makes a string. */
  get address(): string {
    return (this.#address ??= this.#format(this.addressAt))
  }

  /** The address it was sent to as text; undefined for a datagram that came by the kernel. Makes a string. */
  get localAddress(): string | undefined {
    if (this.addressAt < 0) return undefined
    return this.#format(
      this.addressAt + (this.family === 4 ? IPV4_AT.dst - IPV4_AT.src : IPV6_AT.dst - IPV6_AT.src),
    )
  }

  #format(at: number): string {
    const { bytes } = this
    if (this.family === 4) return this.#formatIpv4(at)
    const isLinkLocal = bytes[at] === 0xfe && (bytes[at + 1] & 0xc0) === 0x80
    return isLinkLocal ? `${formatIpv6(bytes, at)}%${this.#zone}` : formatIpv6(bytes, at)
  }

  #formatIpv4(at: number): string {
    const key = this.view.getInt32(at)
    let text = this.#texts.get(key)
    if (text === undefined) {
      if (this.#texts.size === MAX_TEXTS) this.#texts.clear()
      this.#texts.set(key, (text = formatIpv4(this.bytes, at)))
    }
    return text
  }

  /** A view of the payload: makes an object. */
  subarray(): Uint8Array {
    return this.bytes.subarray(this.offset, this.offset + this.length)
  }

  /** A copy of the payload, which outlives the handler. */
  copy(): Buffer {
    const { bytes, offset, length } = this
    const copy = Buffer.allocUnsafe(length)
    // Below this a call costs more than the bytes.
    if (length > 48) copy.set(bytes.subarray(offset, offset + length))
    else for (let i = 0; i < length; i++) copy[i] = bytes[offset + i]
    return copy
  }

  /** The payload as UTF-8 text. */
  toString(): string {
    return this.#text.toString('utf8', this.offset, this.offset + this.length)
  }

  /**
   * Sends a datagram back to where this one came from, when the handler returns: `payload`, or without one `length` bytes
   * from `offset` as the handler leaves them. It goes in the frame of this one, with the address it was sent to as
   * its source. Once a message: for more, `server.send`. One that is longer than `room` goes through the kernel, which cuts
   * it into fragments. False when it had to be dropped.
   *
   * Throws `StateError` after the handler has returned, or a second time; `KernelError` EMSGSIZE when it has to go through the
   * kernel and the server has no kernel socket, or when UDP has no room for it.
   */
  reply(payload?: Uint8Array | string): boolean {
    if (this.#reply !== NO_REPLY) {
      throw this.#reply === IDLE
        ? new StateError(
            'The message is over: its handler has returned',
            'Keep address and port, and use server.send.',
          )
        : new StateError('The message has been replied to', 'Use server.send for more datagrams.')
    }
    const { offset } = this
    if (payload === undefined) {
      if (this.length > this.room || this.length < 0) return this.#elsewhere(this.subarray())
    } else if (typeof payload === 'string') {
      // UTF-8 takes at most three bytes for each unit of a string.
      if (payload.length * 3 > this.room && Buffer.byteLength(payload) > this.room)
        return this.#elsewhere(Buffer.from(payload))
      this.length = this.#text.write(payload, offset, this.room)
    } else {
      const { length } = payload
      // What has no length is told so there.
      if (!(length <= this.room)) return this.#elsewhere(payload)
      if (length > 48) this.bytes.set(payload, offset)
      else for (let i = 0; i < length; i++) this.bytes[offset + i] = payload[i]
      this.length = length
    }
    this.#reply = this.length
    return true
  }

  #elsewhere(payload: Uint8Array): boolean {
    const done = this.#origin?.replyElsewhere(this, payload) ?? false
    this.#reply = ELSEWHERE
    return done
  }
}
