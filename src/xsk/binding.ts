// The system calls of an AF_XDP socket: creating it, its rings, binding it to a queue, what the kernel answers.
import { EAFNOSUPPORT, EBADF, EBUSY, EINVAL, ENETDOWN, ENODEV, EOPNOTSUPP, EPERM } from '../kernel/errno.js'
import { setTimeout as delay } from 'node:timers/promises'
import {
  KernelError,
  MappedRegion,
  UnsupportedError,
  check,
  inNamespace,
  kernelAtLeast,
  native,
  type Namespace,
} from '../kernel/index.js'
import { describeQueueHolders } from '../bpf/query.js'
import type { BusyPollOptions, CopyMode, RingSizes } from './options.js'
import {
  ADDRESS_WORDS,
  DESCRIPTOR_WORDS,
  ringBytes,
  ringOver,
  type RingMemory,
  type RingOffsets,
} from './ring-memory.js'
import type { Umem } from './umem.js'
import * as uapi from './uapi.js'

const { SOL_XDP, SOL_SOCKET } = uapi

/** Opens an AF_XDP socket in a namespace. The caller owns the descriptor. */
export function openSocket(namespace: Namespace | undefined): number {
  const fd = inNamespace(namespace, () => native.socket(uapi.AF_XDP, uapi.SOCK_RAW, 0))
  return check(fd, 'socket(AF_XDP)', {
    hint:
      fd === -EAFNOSUPPORT
        ? 'This kernel was built without CONFIG_XDP_SOCKETS, or is older than 4.18.'
        : fd === -EPERM
          ? 'Run as root, or grant CAP_NET_RAW.'
          : undefined,
  })
}

/** The mapped rings of a socket, each with its views. */
export interface MappedRings {
  fill: RingMemory
  completion: RingMemory
  rx: RingMemory
  tx: RingMemory
  /** Detaches every view and unmaps. */
  close(): void
}

const SET_RING = {
  fill: ['XDP_UMEM_FILL_RING', uapi.XDP_UMEM_FILL_RING],
  completion: ['XDP_UMEM_COMPLETION_RING', uapi.XDP_UMEM_COMPLETION_RING],
  rx: ['XDP_RX_RING', uapi.XDP_RX_RING],
  tx: ['XDP_TX_RING', uapi.XDP_TX_RING],
} as const

/** Makes rings of a socket: all four, or `rx` and `tx` alone for one that shares its queue with another socket. */
export function createRings(
  fd: number,
  sizes: RingSizes,
  rings: readonly (keyof RingSizes)[] = ['fill', 'completion', 'rx', 'tx'],
): void {
  for (const ring of rings) {
    const [name, option] = SET_RING[ring]
    setInteger(fd, SOL_XDP, option, sizes[ring], name, 'Ask for a smaller ring.')
  }
}

/** Maps the TX ring of a socket, to look at. */
export function mapTxRing(fd: number, size: number): { tx: RingMemory; close(): void } {
  const offsets = ringOffsets(fd).tx
  const length = ringBytes(offsets, size, DESCRIPTOR_WORDS)
  const region = MappedRegion.map({ fd, length, offset: uapi.XDP_PGOFF_TX_RING })
  return {
    tx: ringOver(region.buffer, offsets, size, DESCRIPTOR_WORDS),
    close: () => region.close(),
  }
}

/** Maps the four rings of a socket, for one thread; any thread of the process may. The mapping keeps the socket open. */
export function mapRings(fd: number, sizes: RingSizes): MappedRings {
  const offsets = ringOffsets(fd)
  const regions: MappedRegion[] = []
  const close = () => regions.forEach((region) => region.close())
  const map = (name: keyof RingSizes, page: number, words: number): RingMemory => {
    const region = MappedRegion.map({
      fd,
      length: ringBytes(offsets[name], sizes[name], words),
      offset: page,
      populate: true,
      context: { about: `${name} ring of ${sizes[name]} entries` },
    })
    regions.push(region)
    return ringOver(region.buffer, offsets[name], sizes[name], words)
  }
  try {
    return {
      fill: map('fill', uapi.XDP_UMEM_PGOFF_FILL_RING, ADDRESS_WORDS),
      completion: map('completion', uapi.XDP_UMEM_PGOFF_COMPLETION_RING, ADDRESS_WORDS),
      rx: map('rx', uapi.XDP_PGOFF_RX_RING, DESCRIPTOR_WORDS),
      tx: map('tx', uapi.XDP_PGOFF_TX_RING, DESCRIPTOR_WORDS),
      close,
    }
  } catch (error) {
    close()
    throw error
  }
}

/** Asks the kernel where the rings' parts are (struct xdp_mmap_offsets; without flags before 5.4). */
function ringOffsets(fd: number): Record<keyof RingSizes, RingOffsets> {
  const answer = new DataView(new ArrayBuffer(128))
  const length = check(
    native.getsockopt(fd, SOL_XDP, uapi.XDP_MMAP_OFFSETS, answer),
    'getsockopt(XDP_MMAP_OFFSETS)',
  )
  const fields = length >= 128 ? 4 : 3
  const at = (ring: number, field: number) => Number(answer.getBigUint64((ring * fields + field) * 8, true))
  const offsets = (ring: number): RingOffsets => ({
    producer: at(ring, 0),
    consumer: at(ring, 1),
    desc: at(ring, 2),
    flags: fields === 4 ? at(ring, 3) : undefined,
  })
  return { rx: offsets(0), tx: offsets(1), fill: offsets(2), completion: offsets(3) }
}

/** What to bind a socket to. */
export interface BindRequest {
  interface: string
  ifindex: number
  queue: number
  namespace: Namespace | undefined
  /** The queue's name for `closeSocket`: see `queueKey`. */
  key: string
  copy: CopyMode
  needWakeup: boolean
  multiBuffer: boolean
  /** That of the sockets it is opened together with. */
  patience?: BusyPatience | undefined
}

/** How long sockets that are opened together wait for busy queues: one time for all, counted from the first that is busy. */
export class BusyPatience {
  #since: number | undefined
  #isOn = false

  /** Counts from here on, until `end`. */
  begin(): void {
    this.#isOn = true
    this.#since = undefined
  }

  end(): void {
    this.#isOn = false
  }

  /** Until when a queue that was busy at `now` is waited for, when the wait may be `ms` long. */
  until(now: number, ms: number): number {
    if (!this.#isOn) return now + ms
    this.#since ??= now
    return this.#since + ms
  }
}

// How long a busy queue is waited for: closing a socket returns before its queue is free, which the kernel's work
// queue sees to (net/xdp/xsk_buff_pool.c: xp_put_pool), on a loaded machine after seconds.
const PATIENCE_MS = 1000
const PATIENCE_AFTER_OWN_MS = 5000

// When this thread closed its last socket on a queue.
const closedAt = new Map<string, number>()

/** What tells a queue from all others of this machine. */
export function queueKey(namespace: Namespace | undefined, ifindex: number, queue: number): string {
  return `${namespace?.inode}/${ifindex}/${queue}`
}

/** Closes a socket and remembers that its queue will be free soon. */
export function closeSocket(fd: number, key: string): void {
  native.close(fd)
  const now = performance.now()
  for (const [other, at] of closedAt) if (now - at > PATIENCE_AFTER_OWN_MS) closedAt.delete(other)
  closedAt.set(key, now)
}

/**
 * Registers the UMEM and binds the socket to its queue. Where another socket is bound on the UMEM already, its
 * registration is shared (XDP_SHARED_UMEM, kernel 5.10 for another queue or device): the pages are pinned once, and
 * copy mode and need_wakeup are those of the other socket.
 *
 * EBUSY is tried again for about a second, and for five after a socket of this thread was closed on that queue:
 * then it is the kernel that has not let go of it yet, and nobody else. With `patience` the second is that of all who share it.
 */
export async function bindSocket(fd: number, umem: Umem, request: BindRequest): Promise<void> {
  let isRegistered = false
  // Anew at every attempt: meanwhile the other socket may be closed, and its number that of something else.
  const attempt = () => {
    const partner = isRegistered || !kernelAtLeast(5, 10) ? undefined : umem.boundSocket
    if (partner !== undefined) {
      const result = native.bind(fd, addressOf(request, partner))
      // The memory can be registered twice as well: when the other socket has lost its device (EBADF), or its device
      // has zero copy and this one has not (net/xdp/xsk.c: xsk_bind).
      if (result !== -EBADF && result !== -EOPNOTSUPP) return result
    }
    if (!isRegistered) umem.register(fd)
    isRegistered = true
    return native.bind(fd, addressOf(request))
  }
  let result = attempt()
  const started = performance.now()
  const own = started - (closedAt.get(request.key) ?? -Infinity) < PATIENCE_AFTER_OWN_MS
  const patience = own ? PATIENCE_AFTER_OWN_MS : PATIENCE_MS
  const deadline =
    result === -EBUSY ? (request.patience?.until(started, patience) ?? started + patience) : started
  for (let wait = 1; result === -EBUSY && performance.now() < deadline; wait = Math.min(wait * 2, 100)) {
    await delay(wait)
    result = attempt()
  }
  closedAt.delete(request.key)
  if (result === -EINVAL && request.multiBuffer && bindsWithout(fd, request)) {
    throw new UnsupportedError(
      `This kernel has no AF_XDP packets in several frames, which \`multiBuffer\` asks for on ${request.interface}`,
      'They came with kernel 6.6. Without `multiBuffer` packets longer than a frame are dropped.',
    )
  }
  if (result < 0) throw bindError(-result, request)
  umem.addBound(fd)
}

// Whether it was XDP_USE_SG that bind did not know. The caller closes the socket.
function bindsWithout(fd: number, request: BindRequest): boolean {
  return native.bind(fd, addressOf({ ...request, multiBuffer: false })) === 0
}

/**
 * Binds a socket to the queue that `partner` is bound to. It shares the partner's UMEM, fill and completion ring and
 * must have none of its own (XDP_SHARED_UMEM).
 */
export function bindBeside(fd: number, partner: number, request: BindRequest): void {
  const result = native.bind(fd, addressOf(request, partner))
  if (result < 0) throw bindError(-result, request)
}

/** A struct sockaddr_xdp. No other flag may go with XDP_SHARED_UMEM. */
function addressOf(request: BindRequest, partner?: number): DataView {
  const address = new DataView(new ArrayBuffer(16))
  const flags =
    (request.copy === 'copy' ? uapi.XDP_COPY : 0) |
    (request.copy === 'zero-copy' ? uapi.XDP_ZEROCOPY : 0) |
    (request.needWakeup ? uapi.XDP_USE_NEED_WAKEUP : 0) |
    (request.multiBuffer ? uapi.XDP_USE_SG : 0)
  address.setUint16(0, uapi.AF_XDP, true)
  address.setUint16(2, partner === undefined ? flags : uapi.XDP_SHARED_UMEM, true)
  address.setUint32(4, request.ifindex, true)
  address.setUint32(8, request.queue, true)
  address.setUint32(12, partner ?? 0, true)
  return address
}

function bindError(errno: number, request: BindRequest): KernelError {
  const { namespace } = request
  const holders = errno === EBUSY ? describeQueueHolders(request.ifindex, { namespace }) : undefined
  const hints: Record<number, string> = {
    [EBUSY]: `Another AF_XDP socket holds queue ${request.queue} of ${request.interface}${holders ? `, and ${holders}` : ''}; close it, or take another queue.`,
    [EINVAL]: `Check that ${request.interface} has a queue ${request.queue} (\`ethtool -l ${request.interface}\`).`,
    [EOPNOTSUPP]: `The driver of ${request.interface} has no zero copy; use copy "auto" or "copy".`,
    [ENETDOWN]: `Bring the interface up first: \`ip link set ${request.interface} up\`.`,
    [ENODEV]: `The interface ${request.interface} is gone.`,
  }
  const copy = request.copy === 'auto' ? '' : `, ${request.copy}`
  return new KernelError('bind', errno, {
    about: `${request.interface} queue ${request.queue}${copy}`,
    hint: hints[errno],
  })
}

/** Whether the kernel has put the bound socket into zero-copy mode (XDP_OPTIONS, kernel 5.3). */
export function isZeroCopy(fd: number): boolean {
  const answer = new DataView(new ArrayBuffer(4))
  check(native.getsockopt(fd, SOL_XDP, uapi.XDP_OPTIONS, answer), 'getsockopt(XDP_OPTIONS)')
  return (answer.getUint32(0, true) & uapi.XDP_OPTIONS_ZEROCOPY) !== 0
}

/** Turns on preferred busy polling for the socket. Kernel 5.11; SO_BUSY_POLL above the system's default needs CAP_NET_ADMIN. */
export function setBusyPoll(fd: number, options: Required<BusyPollOptions>): void {
  setInteger(fd, SOL_SOCKET, uapi.SO_PREFER_BUSY_POLL, 1, 'SO_PREFER_BUSY_POLL')
  setInteger(fd, SOL_SOCKET, uapi.SO_BUSY_POLL, options.microseconds, 'SO_BUSY_POLL')
  setInteger(fd, SOL_SOCKET, uapi.SO_BUSY_POLL_BUDGET, options.budget, 'SO_BUSY_POLL_BUDGET')
}

/** Lets one system call send more than 32 packets in copy mode, where the kernel can (6.17). */
export function raiseTxBudget(fd: number, txRing: number): void {
  if (kernelAtLeast(6, 17))
    native.setsockopt(fd, SOL_XDP, uapi.XDP_MAX_TX_SKB_BUDGET, integer(Math.min(txRing, 512)))
}

/** Takes the error that the kernel left on the socket: an errno, 0 for none. */
export function takeError(fd: number): number {
  const answer = new DataView(new ArrayBuffer(4))
  check(native.getsockopt(fd, SOL_SOCKET, uapi.SO_ERROR, answer), 'getsockopt(SO_ERROR)')
  return answer.getInt32(0, true)
}

function setInteger(
  fd: number,
  level: number,
  option: number,
  value: number,
  name: string,
  hint?: string,
): void {
  check(native.setsockopt(fd, level, option, integer(value)), `setsockopt(${name})`, {
    about: String(value),
    hint,
  })
}

function integer(value: number): DataView {
  const view = new DataView(new ArrayBuffer(4))
  view.setUint32(0, value, true)
  return view
}
