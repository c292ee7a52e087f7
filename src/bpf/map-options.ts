// What a map may be asked to be: options, their checks, and the flags they stand for.
import type { KernelError } from '../kernel/errors.js'
import { OptionError } from '../kernel/errors.js'
import { raiseMemoryLockLimit } from '../kernel/limits.js'
import { PAGE_SIZE } from '../kernel/memory.js'
import { kernelAtLeast } from '../kernel/version.js'
import { Attr, MAP_CREATE } from './attr.js'
import { type Codec, bytes, u32 } from './codec.js'
import { MAP_TYPES, type MapType, kernelName } from './constants.js'
import { E2BIG, EPERM } from '../kernel/errno.js'
import { bpf, bpfError } from './syscall.js'

// include/uapi/linux/bpf.h, flags for BPF_MAP_CREATE
const BPF_F_NO_PREALLOC = 1 << 0
const BPF_F_NO_COMMON_LRU = 1 << 1
const BPF_F_NUMA_NODE = 1 << 2
const BPF_F_RDONLY = 1 << 3
const BPF_F_WRONLY = 1 << 4
const BPF_F_RDONLY_PROG = 1 << 7
const BPF_F_WRONLY_PROG = 1 << 8
export const BPF_F_MMAPABLE = 1 << 10
const BPF_F_INNER_MAP = 1 << 12

/** Maps with one value for each possible processor. */
export type PerCpuMapType = 'percpu_array' | 'percpu_hash' | 'lru_percpu_hash'
/** Maps whose keys are the numbers from 0 to `maxEntries` - 1. */
export type IndexedMapType =
  | 'array'
  | 'percpu_array'
  | 'prog_array'
  | 'perf_event_array'
  | 'array_of_maps'
  | 'devmap'
  | 'cpumap'
  | 'xskmap'
/** Maps whose values are 32-bit numbers when nothing else is said: descriptors, devices, queue lengths. */
export type ReferenceMapType =
  | 'prog_array'
  | 'perf_event_array'
  | 'array_of_maps'
  | 'hash_of_maps'
  | 'devmap'
  | 'devmap_hash'
  | 'cpumap'
  | 'xskmap'
/** Maps without keys. */
type KeylessMapType = 'ringbuf' | 'user_ringbuf' | 'queue' | 'stack' | 'bloom_filter'

const perCpu = new Set<string>(['percpu_array', 'percpu_hash', 'lru_percpu_hash'] satisfies PerCpuMapType[])
const indexed = new Set<string>([
  'array',
  'percpu_array',
  'prog_array',
  'perf_event_array',
  'array_of_maps',
  'devmap',
  'cpumap',
  'xskmap',
] satisfies IndexedMapType[])
const references = new Set<string>([
  'prog_array',
  'perf_event_array',
  'array_of_maps',
  'hash_of_maps',
  'devmap',
  'devmap_hash',
  'cpumap',
  'xskmap',
] satisfies ReferenceMapType[])
const keyless = new Set<string>([
  'ringbuf',
  'user_ringbuf',
  'queue',
  'stack',
  'bloom_filter',
] satisfies KeylessMapType[])

export const isPerCpu = (type: string): type is PerCpuMapType => perCpu.has(type)
/** Keys are numbers below `maxEntries`. */
export const isIndexed = (type: string): boolean => indexed.has(type)
/** Values are descriptors or ids. */
export const isReference = (type: string): boolean => references.has(type)

/** What to make a map of. `K` and `V` come from the codecs. */
export interface CreateMapOptions<T extends MapType, K, V> {
  type: T
  /** Letters, digits, `_`, `.`; other characters become `_`, and the kernel keeps 15. */
  name?: string
  /** A codec, or the size of raw byte keys. Default u32 for maps that are indexed by number. */
  key?: Codec<K> | number
  /** A codec, or the size of raw byte values. Default u32 for maps that hold descriptors or devices. */
  value?: Codec<V> | number
  /** Entries; for a ring buffer its size in bytes, a power of two and a multiple of the page size. */
  maxEntries: number
  /** Hash maps only: false allocates entries as they come. Default true. An LPM trie never preallocates. */
  preallocate?: boolean
  /** LRU maps only: a list of its own for each processor, which scales better and evicts sooner. */
  perCpuLru?: boolean
  /** What this descriptor may do; programs are not concerned. */
  access?: 'read-only' | 'write-only'
  /** What programs may do (5.2). */
  programAccess?: 'read-only' | 'write-only'
  /** Array maps only: can be mapped into memory with `mmap()` (5.5). */
  mmapable?: boolean
  numaNode?: number
  /** Maps of maps: a map like those it will hold. It only lends its shape. */
  innerMap?: { readonly fd: number }
  /** Array maps only: meant as inner maps of differing size (5.10). */
  sizeMayDiffer?: boolean
  /** Device index, for maps of a program offloaded to hardware. */
  ifindex?: number
  /** Types of key and value in a loaded BTF object. */
  btf?: { fd: number; keyTypeId: number; valueTypeId: number }
  /** Per-type extra: `map_extra`. */
  extra?: number
  /** Flag bits that have no option here. */
  flags?: number
}

/** Codecs, sizes and names of a map, as checked. */
export interface MapShape<K, V> {
  type: MapType
  name: string
  key: Codec<K>
  value: Codec<V>
  maxEntries: number
  flags: number
}

/** Checks options and fills in the defaults of the type. Throws `OptionError`, before any system call. */
export function mapShape<T extends MapType, K, V>(options: CreateMapOptions<T, K, V>): MapShape<K, V> {
  const { type } = options
  if (MAP_TYPES[type] === undefined) throw new OptionError('type', `"${type}" is no type of map`)
  const key = codecOf('key', options.key ?? (isIndexed(type) ? u32 : undefined), type)
  const value = codecOf('value', options.value ?? (isReference(type) ? u32 : undefined), type)
  checkSizes(type, key.size, value.size)
  checkEntries(type, options.maxEntries)
  if (options.mmapable && type !== 'array') {
    throw new OptionError('mmapable', `Only maps of type "array" can be mapped into memory, not "${type}"`)
  }
  const isMapOfMaps = type === 'array_of_maps' || type === 'hash_of_maps'
  if (isMapOfMaps !== (options.innerMap !== undefined)) {
    throw new OptionError(
      'innerMap',
      isMapOfMaps ? `A map of type "${type}" needs innerMap` : `A map of type "${type}" takes no innerMap`,
    )
  }
  const name = kernelName(options.name ?? '')
  return {
    type,
    name,
    key: key as Codec<K>,
    value: value as Codec<V>,
    maxEntries: options.maxEntries,
    flags: flagsOf(options),
  }
}

/** Makes the map and returns its descriptor. Before 5.11 maps count against RLIMIT_MEMLOCK, which is raised when in the way. */
export function createMap<T extends MapType, K, V>(
  options: CreateMapOptions<T, K, V>,
  shape: MapShape<K, V>,
): number {
  const attr = new Attr(MAP_CREATE, {
    map_type: MAP_TYPES[shape.type],
    key_size: shape.key.size,
    value_size: shape.value.size,
    max_entries: shape.maxEntries,
    map_flags: shape.flags,
    inner_map_fd: options.innerMap?.fd,
    numa_node: options.numaNode,
    map_name: shape.name,
    map_ifindex: options.ifindex,
    btf_fd: options.btf?.fd,
    btf_key_type_id: options.btf?.keyTypeId,
    btf_value_type_id: options.btf?.valueTypeId,
    map_extra: options.extra,
  })
  let result = bpf('MAP_CREATE', attr)
  if (result === -EPERM && !kernelAtLeast(5, 11) && raiseMemoryLockLimit()) result = bpf('MAP_CREATE', attr)
  if (result < 0) throw createError(-result, shape)
  return result
}

function createError<K, V>(
  errno: number,
  { type, name, key, value, maxEntries }: MapShape<K, V>,
): KernelError {
  const about = `${type} map ${name === '' ? '' : `"${name}" `}with keys of ${key.size} and values of ${value.size} bytes, ${maxEntries} entries`
  const hint =
    errno === EPERM
      ? 'Run as root, or grant CAP_BPF and CAP_NET_ADMIN; before kernel 5.11 raise the limit of locked memory too (ulimit -l).'
      : errno === E2BIG
        ? 'Ask for fewer or smaller entries.'
        : undefined
  return bpfError('MAP_CREATE', errno, { about, hint })
}

function codecOf(option: string, given: Codec<unknown> | number | undefined, type: MapType): Codec<unknown> {
  if (given === undefined) {
    if (keyless.has(type)) return bytes(0)
    throw new OptionError(option, `A map of type "${type}" needs the ${option}: a codec, or a size in bytes`)
  }
  if (typeof given !== 'number') return given
  if (!Number.isInteger(given) || given < 0) throw new OptionError(option, `${given} is no size in bytes`)
  return bytes(given)
}

function checkSizes(type: MapType, key: number, value: number): void {
  const fail = (option: string, message: string): never => {
    throw new OptionError(option, `A map of type "${type}" ${message}`)
  }
  if (isIndexed(type) && key !== 4) fail('key', `has keys of 4 bytes, not ${key}`)
  if (type === 'devmap_hash' && key !== 4) fail('key', `has keys of 4 bytes, not ${key}`)
  if (keyless.has(type) && key !== 0) fail('key', 'has no keys')
  if (!keyless.has(type) && key === 0) fail('key', 'needs keys of at least one byte')
  if (type === 'ringbuf' || type === 'user_ringbuf') {
    if (value !== 0) fail('value', 'has no values')
  } else if (value === 0) {
    fail('value', 'needs values of at least one byte')
  }
  // kernel/bpf/lpm_trie.c: LPM_KEY_SIZE_MIN and LPM_KEY_SIZE_MAX
  if (type === 'lpm_trie' && (key < 5 || key > 260)) {
    fail('key', `has keys of 5 to 260 bytes (4 for the prefix length), not ${key}`)
  }
  const isDeviceMap = type === 'devmap' || type === 'devmap_hash' || type === 'cpumap'
  if (isDeviceMap && value !== 4 && value !== 8) fail('value', `has values of 4 or 8 bytes, not ${value}`)
  if (isReference(type) && !isDeviceMap && value !== 4) fail('value', `has values of 4 bytes, not ${value}`)
}

function checkEntries(type: MapType, entries: number): void {
  if (!Number.isInteger(entries) || entries < 1 || entries > 0xffffffff) {
    throw new OptionError('maxEntries', `${entries} is no number of entries; it must be 1 to 4294967295`)
  }
  if (type !== 'ringbuf' && type !== 'user_ringbuf') return
  const isPowerOfTwo = (entries & (entries - 1)) === 0
  if (!isPowerOfTwo || entries % PAGE_SIZE !== 0) {
    throw new OptionError(
      'maxEntries',
      `A ring buffer of ${entries} bytes cannot be: its size is a power of two and a multiple of ${PAGE_SIZE}`,
    )
  }
}

function flagsOf<T extends MapType, K, V>(options: CreateMapOptions<T, K, V>): number {
  let flags = options.flags ?? 0
  if (options.preallocate === false || options.type === 'lpm_trie') flags |= BPF_F_NO_PREALLOC
  if (options.perCpuLru) flags |= BPF_F_NO_COMMON_LRU
  if (options.numaNode !== undefined) flags |= BPF_F_NUMA_NODE
  if (options.access) flags |= options.access === 'read-only' ? BPF_F_RDONLY : BPF_F_WRONLY
  if (options.programAccess)
    flags |= options.programAccess === 'read-only' ? BPF_F_RDONLY_PROG : BPF_F_WRONLY_PROG
  if (options.mmapable) flags |= BPF_F_MMAPABLE
  if (options.sizeMayDiffer) flags |= BPF_F_INNER_MAP
  return flags
}
