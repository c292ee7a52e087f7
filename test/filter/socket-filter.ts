// Classic BPF run by the kernel itself: attached to a socket, to which packets are then sent as datagrams.
import { native } from '../../src/kernel/native.js'

const AF_UNIX = 1
const SOCK_DGRAM = 2
const SOL_SOCKET = 1
const SO_ATTACH_FILTER = 26
const MSG_DONTWAIT = 0x40
const EAGAIN = 11
/** struct sockaddr_un */
const ADDRESS_BYTES = 110

const check = (result: number, call: string): number => {
  if (result < 0) throw new Error(`${call} failed with errno ${-result}`)
  return result
}

/** A socket with a filter before it. unix_dgram_sendmsg() runs the filter over the datagram, and over nothing but it. */
export class FilteredSocket {
  readonly #receiver: number
  readonly #sender: number
  readonly #address: Uint8Array
  readonly #buffer = new Uint8Array(65536)

  constructor() {
    this.#receiver = check(native.socket(AF_UNIX, SOCK_DGRAM, 0), 'socket')
    this.#sender = check(native.socket(AF_UNIX, SOCK_DGRAM, 0), 'socket')
    // A family alone: the kernel makes up a name in the abstract name space.
    check(native.bind(this.#receiver, Uint8Array.of(AF_UNIX, 0)), 'bind')
    const address = new Uint8Array(ADDRESS_BYTES)
    const length = check(native.getsockname(this.#receiver, address), 'getsockname')
    this.#address = address.subarray(0, length)
  }

  /** Puts a program in the place of the one before. Throws when the kernel does not take it. */
  attach(program: Uint8Array): void {
    // struct sock_fprog
    const value = new Uint8Array(16)
    new DataView(value.buffer).setUint16(0, program.length / 8, true)
    check(
      native.setsockopt(this.#receiver, SOL_SOCKET, SO_ATTACH_FILTER, value, [8, program]),
      'SO_ATTACH_FILTER',
    )
  }

  /** Whether the filter lets the packet through. */
  matches(packet: Uint8Array): boolean {
    check(native.send(this.#sender, packet, MSG_DONTWAIT, this.#address), 'sendto')
    const received = native.recv(this.#receiver, this.#buffer, MSG_DONTWAIT)
    if (received === -EAGAIN) return false
    check(received, 'recv')
    return true
  }

  close(): void {
    native.close(this.#receiver)
    native.close(this.#sender)
  }
}
