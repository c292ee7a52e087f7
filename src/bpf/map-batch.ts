// Many map elements a system call (BPF_MAP_*_BATCH, kernel 5.6): over raw bytes.
import { kernelAtLeast } from '../kernel/version.js'
import { Attr, MAP_BATCH } from './attr.js'
import { EINTR, EINVAL, ENOENT, ENOSPC, EOPNOTSUPP, ENOTSUPP } from '../kernel/errno.js'
import { type Command, bpf, bpfError } from './syscall.js'

/** What a batch needs of a map. `valueBytes` is what the kernel copies: for per-CPU maps all processors' values. */
export interface BatchMap {
  fd: number
  name: string
  maxEntries: number
  keyBytes: number
  valueBytes: number
}

/** Elements of one batch: `count` keys and values, each `keyBytes` and `valueBytes` apart. */
export interface Batch {
  keys: Uint8Array
  values: Uint8Array
  count: number
}

/** About how much memory a batch takes. */
const BATCH_BYTES = 256 * 1024
/** Fewer than a hash bucket may hold, and the kernel answers ENOSPC; it is then doubled. */
const MIN_BATCH = 16

/** Whether a failure means that this map, or this kernel, has no batches. */
export function isUnsupported(errno: number): boolean {
  return errno === ENOTSUPP || errno === EOPNOTSUPP || (errno === EINVAL && !kernelAtLeast(5, 6))
}

function batchSize(map: BatchMap): number {
  const fitting = Math.floor(BATCH_BYTES / (map.keyBytes + map.valueBytes))
  return Math.max(MIN_BATCH, Math.min(fitting, map.maxEntries))
}

/**
 * All elements, batch by batch; the buffers are reused from one to the next. Returns false, before the first batch, when
 * batches are not supported. Elements that come or go meanwhile may or may not be seen.
 */
export function* lookupBatches(map: BatchMap, drain = false): Generator<Batch, boolean> {
  const command: Command = drain ? 'MAP_LOOKUP_AND_DELETE_BATCH' : 'MAP_LOOKUP_BATCH'
  // The cursor is a bucket number for hash maps, a key for others.
  let cursor = new Uint8Array(Math.max(4, map.keyBytes))
  let next = new Uint8Array(cursor.length)
  let size = batchSize(map)
  let keys = new Uint8Array(size * map.keyBytes)
  let values = new Uint8Array(size * map.valueBytes)
  for (let isFirst = true; ;) {
    const attr = new Attr(MAP_BATCH, {
      in_batch: isFirst ? null : cursor,
      out_batch: next,
      keys,
      values,
      count: size,
      map_fd: map.fd,
    })
    const errno = -bpf(command, attr)
    if (isFirst && isUnsupported(errno)) return false
    if (errno === EINTR) continue
    if (errno === ENOSPC) {
      size *= 2
      keys = new Uint8Array(size * map.keyBytes)
      values = new Uint8Array(size * map.valueBytes)
      continue
    }
    if (errno > 0 && errno !== ENOENT) throw bpfError(command, errno, { about: `map ${map.name}` })
    const count = attr.get('count')
    if (count > 0) yield { keys, values, count }
    if (errno === ENOENT) return true
    isFirst = false
    ;[cursor, next] = [next, cursor]
  }
}

/** Runs an update or delete batch: how many elements were done, and the errno that stopped it (0 for none). */
export function changeBatch(
  command: 'MAP_UPDATE_BATCH' | 'MAP_DELETE_BATCH',
  map: BatchMap,
  batch: { keys: Uint8Array; values?: Uint8Array; count: number },
): { done: number; errno: number } {
  const attr = new Attr(MAP_BATCH, { ...batch, map_fd: map.fd })
  const errno = Math.max(0, -bpf(command, attr))
  const count = attr.get('count')
  // The kernel writes the count only when it got as far as the elements; else it still says what was asked.
  return { done: errno !== 0 && count === batch.count ? 0 : count, errno }
}
