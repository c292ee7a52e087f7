// BPF maps: typed over codecs, raw bytes underneath. "Not there" is a value; errors are for what the kernel refuses.
import { NotFoundError, OptionError, StateError } from '../kernel/errors.js'
import { MappedRegion, PAGE_SIZE } from '../kernel/memory.js'
import { native } from '../kernel/native.js'
import { Attr, MAP_ELEM } from './attr.js'
import { type Codec, bytes, roundUp } from './codec.js'
import type { MapType } from './constants.js'
import { possibleCpus } from './cpus.js'
import { type MapInfo, assertKind, mapInfo, openById } from './info.js'
import { type BatchMap, changeBatch, isUnsupported, lookupBatches } from './map-batch.js'
import {
  BPF_F_MMAPABLE,
  type CreateMapOptions,
  type IndexedMapType,
  type PerCpuMapType,
  type ReferenceMapType,
  createMap,
  isPerCpu,
  mapShape,
} from './map-options.js'
import { getPinned, pinObject } from './pin.js'
import { E2BIG, EEXIST, EINVAL, ENODEV, ENOENT } from '../kernel/errno.js'
import { type Command, bpf, bpfError } from './syscall.js'

/** The type of keys and values when no codec says otherwise. */
export type DefaultKey<T extends MapType> = T extends IndexedMapType ? number : Uint8Array
export type DefaultValue<T extends MapType> = T extends ReferenceMapType ? number : Uint8Array
/** What one lookup gives: for per-CPU maps a value for each possible processor. */
export type Stored<T extends MapType, V> = T extends PerCpuMapType ? V[] : V

/** Codecs for a map that exists already. Their sizes must be the map's. */
export interface MapCodecs<K, V, P extends boolean> {
  key?: Codec<K>
  value?: Codec<V>
  /** The map holds a value for each processor: lookups give arrays. Default false. */
  perCpu?: P
}

/** The map that codecs make of an existing one. */
export type OpenedMap<K, V, P extends boolean> = BpfMap<K, P extends true ? V[] : V>

/** When `update` writes: always, only a new element (BPF_NOEXIST), only one that is there (BPF_EXIST). */
export type UpdateMode = 'any' | 'create' | 'replace'

const updateFlags: Record<UpdateMode, number> = { any: 0, create: 1, replace: 2 }

/**
 * A BPF map, by a descriptor that this object owns. The map lives as long as a descriptor, a program or a pin refers to it.
 *
 * Keys and values go through codecs (codec.ts); without one they are `Uint8Array`s of the map's sizes. Values of per-CPU
 * maps are arrays with one element for each possible processor.
 */
export class BpfMap<K = unknown, V = unknown> {
  readonly type: MapType | 'unknown'
  readonly name: string
  readonly maxEntries: number
  /** Sizes in bytes of one key and of one value (on one processor). */
  readonly keySize: number
  readonly valueSize: number
  readonly #keyCodec: Codec<K>
  readonly #valueCodec: Codec<V>
  readonly #flags: number
  readonly #key: Uint8Array
  readonly #keyView: DataView
  readonly #value: Uint8Array
  readonly #valueView: DataView
  readonly #element: Attr<typeof MAP_ELEM.fields>
  readonly #keyOnly: Attr<typeof MAP_ELEM.fields>
  #fd: number
  #id: number | undefined
  #hasBatches: boolean | undefined

  private constructor(fd: number, info: Omit<MapInfo, 'id'>, key: Codec<K>, value: Codec<V>) {
    this.#fd = fd
    this.type = info.type
    this.name = info.name
    this.maxEntries = info.maxEntries
    this.keySize = info.keySize
    this.valueSize = info.valueSize
    this.#flags = info.flags
    this.#keyCodec = key
    this.#valueCodec = value
    this.#key = new Uint8Array(info.keySize)
    this.#keyView = new DataView(this.#key.buffer)
    this.#value = new Uint8Array(value.size)
    this.#valueView = new DataView(this.#value.buffer)
    this.#element = new Attr(MAP_ELEM, { map_fd: fd, key: this.#key, value: this.#value }, 'flags')
    this.#keyOnly = new Attr(MAP_ELEM, { map_fd: fd, key: this.#key })
  }

  /** Makes a map. Throws `OptionError` for what cannot be, `KernelError` for what the kernel refuses. */
  static create<T extends MapType, K = DefaultKey<T>, V = DefaultValue<T>>(
    options: CreateMapOptions<T, K, V>,
  ): BpfMap<K, Stored<T, V>> {
    const shape = mapShape(options)
    const fd = createMap(options, shape)
    const { type, name, maxEntries, flags } = shape
    const info = {
      type,
      name,
      maxEntries,
      flags,
      keySize: shape.key.size,
      valueSize: shape.value.size,
      ifindex: options.ifindex ?? 0,
      btfId: 0,
      btfKeyTypeId: options.btf?.keyTypeId ?? 0,
      btfValueTypeId: options.btf?.valueTypeId ?? 0,
      extra: options.extra ?? 0,
    }
    return new BpfMap(fd, info, shape.key, storedCodec(type, shape.value)) as BpfMap<K, Stored<T, V>>
  }

  /** Takes over a map's descriptor. Throws `OptionError` when the codecs do not fit the map. */
  static fromFd<K = Uint8Array, V = Uint8Array, P extends boolean = false>(
    fd: number,
    codecs: MapCodecs<K, V, P> = {},
  ): OpenedMap<K, V, P> {
    assertKind(fd, 'map', `Descriptor ${fd}`)
    const info = mapInfo(fd)
    if (isPerCpu(info.type) !== (codecs.perCpu ?? false)) {
      throw new OptionError(
        'perCpu',
        `The map "${info.name}" of type "${info.type}" is ${isPerCpu(info.type) ? 'a' : 'no'} per-CPU map`,
      )
    }
    const key = codecs.key ?? (bytes(info.keySize) as Codec<unknown> as Codec<K>)
    const value = codecs.value ?? (bytes(info.valueSize) as Codec<unknown> as Codec<V>)
    for (const [what, size, wanted] of [
      ['key', key.size, info.keySize],
      ['value', value.size, info.valueSize],
    ] as const) {
      if (size !== wanted) {
        throw new OptionError(
          what,
          `The map "${info.name}" has ${what}s of ${wanted} bytes, the codec is for ${size}`,
        )
      }
    }
    return new BpfMap(fd, info, key, storedCodec(info.type, value)) as OpenedMap<K, V, P>
  }

  /** Opens a map by id. Throws `NotFoundError`. Needs CAP_SYS_ADMIN. */
  static openById<K = Uint8Array, V = Uint8Array, P extends boolean = false>(
    id: number,
    codecs?: MapCodecs<K, V, P>,
  ): OpenedMap<K, V, P> {
    const fd = openById('map', id)
    if (fd === undefined) throw new NotFoundError(`No map with id ${id}`, 'See `bpftool map show`.')
    return adopt(fd, () => BpfMap.fromFd(fd, codecs))
  }

  /** Opens a pinned map. Throws `NotFoundError`. */
  static openPinned<K = Uint8Array, V = Uint8Array, P extends boolean = false>(
    path: string,
    codecs?: MapCodecs<K, V, P>,
  ): OpenedMap<K, V, P> {
    const fd = getPinned(path, 'map')
    return adopt(fd, () => BpfMap.fromFd(fd, codecs))
  }

  /** The descriptor. Throws `StateError` once closed. */
  get fd(): number {
    if (this.#fd < 0) throw new StateError(`The map "${this.name}" is closed`)
    return this.#fd
  }

  /** The kernel's id of the map. */
  get id(): number {
    this.#id ??= this.info().id
    return this.#id
  }

  info(): MapInfo {
    return mapInfo(this.fd)
  }

  /** The value of a key, or undefined. Throws `KernelError` EOPNOTSUPP for maps that cannot be read (XSKMAP). */
  lookup(key: K): V | undefined {
    return this.#lookup('MAP_LOOKUP_ELEM', key)
  }

  /** The value of a key that is taken out of the map, or undefined (hash maps 5.14, queues and stacks 4.20). */
  take(key: K): V | undefined {
    return this.#lookup('MAP_LOOKUP_AND_DELETE_ELEM', key)
  }

  /** Writes an element. False when `mode` forbade it: `create` and it was there, `replace` and it was not. */
  update(key: K, value: V, mode: UpdateMode = 'any'): boolean {
    this.#setKey(key)
    this.#valueCodec.encode(this.#valueView, 0, value)
    this.#element.set('flags', updateFlags[mode])
    const result = bpf('MAP_UPDATE_ELEM', this.#element)
    if (result === -EEXIST && mode === 'create') return false
    if (result === -ENOENT && mode === 'replace') return false
    if (result < 0) throw this.#error('MAP_UPDATE_ELEM', -result)
    return true
  }

  /** Removes an element. False when it was not there. Elements of plain arrays cannot be removed (EINVAL). */
  delete(key: K): boolean {
    this.#setKey(key)
    const result = bpf('MAP_DELETE_ELEM', this.#keyOnly)
    if (result === -ENOENT) return false
    if (result < 0) throw this.#error('MAP_DELETE_ELEM', -result)
    return true
  }

  /**
   * The keys, in the map's own order. Elements that come or go meanwhile may or may not be seen, one may be seen twice; the
   * key just given may be deleted. Never more than `maxEntries`.
   */
  *keys(): Generator<K, void> {
    for (const key of this.#rawKeys()) yield this.#keyCodec.decode(viewOf(key), 0)
  }

  /**
   * Keys with their values, by batches where the kernel has them (5.6), else key by key. Concurrent changes as for `keys`.
   */
  *entries(): Generator<[K, V], void> {
    if (this.#hasBatches !== false) {
      this.#hasBatches = yield* this.#decodeBatches(false)
      if (this.#hasBatches) return
    }
    for (const key of this.keys()) {
      const value = this.lookup(key)
      if (value !== undefined) yield [key, value]
    }
  }

  [Symbol.iterator](): Generator<[K, V], void> {
    return this.entries()
  }

  /** Takes all elements out, as they are given: each is seen exactly once, even while programs add more. */
  *drain(): Generator<[K, V], void> {
    if (this.#hasBatches !== false) {
      this.#hasBatches = yield* this.#decodeBatches(true)
      if (this.#hasBatches) return
    }
    for (const key of this.keys()) {
      const value = this.lookup(key)
      if (value !== undefined && this.delete(key)) yield [key, value]
    }
  }

  /** Writes many elements, with one call a batch where the kernel has that. Returns how many. */
  updateBatch(entries: Iterable<readonly [K, V]>): number {
    const list = [...entries]
    const keys = new Uint8Array(list.length * this.keySize)
    const values = new Uint8Array(list.length * this.#value.length)
    const [keyView, valueView] = [viewOf(keys), viewOf(values)]
    list.forEach(([key, value], index) => {
      this.#keyCodec.encode(keyView, index * this.keySize, key)
      this.#valueCodec.encode(valueView, index * this.#value.length, value)
    })
    if (list.length === 0) return 0
    const { done, errno } = changeBatch('MAP_UPDATE_BATCH', this.#batchMap(), {
      keys,
      values,
      count: list.length,
    })
    if (errno === 0) return done
    if (!isUnsupported(errno))
      throw this.#error('MAP_UPDATE_BATCH', errno, `${done} of ${list.length} written`)
    for (const [key, value] of list) this.update(key, value)
    return list.length
  }

  /** Removes many elements, and returns how many of them were there. */
  deleteBatch(keys: Iterable<K>): number {
    const list = [...keys]
    const raw = new Uint8Array(list.length * this.keySize)
    const view = viewOf(raw)
    list.forEach((key, index) => this.#keyCodec.encode(view, index * this.keySize, key))
    let deleted = 0
    for (let at = 0; at < list.length;) {
      const batch = { keys: raw.subarray(at * this.keySize), count: list.length - at }
      const { done, errno } = changeBatch('MAP_DELETE_BATCH', this.#batchMap(), batch)
      if (errno === 0) return deleted + done
      if (isUnsupported(errno)) {
        return deleted + list.slice(at).filter((key) => this.delete(key)).length
      }
      // The kernel stops at a key that is not there: go on behind it.
      if (errno !== ENOENT) throw this.#error('MAP_DELETE_BATCH', errno, `${deleted + done} deleted`)
      deleted += done
      at += done + 1
    }
    return deleted
  }

  /** Makes the map read-only from user space for good (5.2); programs may still write unless created otherwise. */
  freeze(): void {
    const result = bpf('MAP_FREEZE', new Attr(MAP_ELEM, { map_fd: this.fd }))
    if (result < 0) throw this.#error('MAP_FREEZE', -result)
  }

  /**
   * Maps the values of an array made with `mmapable` into memory (5.5): value `i` at `i * roundUp(valueSize, 8)`. The caller
   * owns the region. A frozen map can only be mapped with `writable: false`.
   */
  mmap(options: { writable?: boolean } = {}): MappedRegion {
    if ((this.#flags & BPF_F_MMAPABLE) === 0) {
      throw new OptionError('mmapable', `The map "${this.name}" was not made with mmapable`)
    }
    const length = roundUp(roundUp(this.valueSize, 8) * this.maxEntries, PAGE_SIZE)
    return MappedRegion.map({ fd: this.fd, length, writable: options.writable ?? true })
  }

  /** Gives the map a path in the BPF file system, which keeps it alive; see `pinObject`. */
  pin(path: string): void {
    pinObject(this.fd, path)
  }

  /** Lets go of the descriptor. Closing twice is harmless. */
  close(): void {
    if (this.#fd >= 0) native.close(this.#fd)
    this.#fd = -1
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #setKey(key: K): void {
    void this.fd
    this.#keyCodec.encode(this.#keyView, 0, key)
  }

  #lookup(command: Command, key: K): V | undefined {
    this.#setKey(key)
    this.#element.set('flags', 0)
    const result = bpf(command, this.#element)
    if (result === -ENOENT) return undefined
    if (result < 0) throw this.#error(command, -result)
    return this.#valueCodec.decode(this.#valueView, 0)
  }

  // One key is fetched ahead, so that the one just given may be deleted: from a key that is gone the kernel
  // would start again at the first.
  *#rawKeys(): Generator<Uint8Array, void> {
    let current: Uint8Array | undefined = this.#nextKey(null)
    for (let count = 0; current !== undefined && count < this.maxEntries; count++) {
      const next: Uint8Array | undefined = this.#nextKey(current)
      yield current
      current = next
    }
  }

  #nextKey(key: Uint8Array | null): Uint8Array | undefined {
    const next = new Uint8Array(this.keySize)
    const result = bpf('MAP_GET_NEXT_KEY', new Attr(MAP_ELEM, { map_fd: this.fd, key, value: next }))
    if (result === -ENOENT) return undefined
    if (result < 0) throw this.#error('MAP_GET_NEXT_KEY', -result)
    return next
  }

  *#decodeBatches(drain: boolean): Generator<[K, V], boolean> {
    const batches = lookupBatches(this.#batchMap(), drain)
    for (;;) {
      const step = batches.next()
      if (step.done) return step.value
      const { count } = step.value
      const [keys, values] = [viewOf(step.value.keys), viewOf(step.value.values)]
      for (let i = 0; i < count; i++) {
        const key = this.#keyCodec.decode(keys, i * this.keySize)
        yield [key, this.#valueCodec.decode(values, i * this.#value.length)]
      }
    }
  }

  #batchMap(): BatchMap {
    return {
      fd: this.fd,
      name: this.name,
      maxEntries: this.maxEntries,
      keyBytes: this.keySize,
      valueBytes: this.#value.length,
    }
  }

  #error(command: Command, errno: number, detail?: string): Error {
    const about = `${this.type} map "${this.name}"${detail === undefined ? '' : `, ${detail}`}`
    const hint =
      errno === E2BIG
        ? `The map holds ${this.maxEntries} entries; make it with more, or delete some.`
        : referenceHint(this.type, command, errno)
    return bpfError(command, errno, { about, hint })
  }
}

/** Advice about what an element refers to, where that is not there (kernel/bpf/cpumap.c, kernel/bpf/devmap.c). */
function referenceHint(type: MapType | 'unknown', command: Command, errno: number): string | undefined {
  if (command !== 'MAP_UPDATE_ELEM' && command !== 'MAP_UPDATE_BATCH') return undefined
  if (type === 'cpumap' && errno === ENODEV) {
    return 'There is no such processor; /sys/devices/system/cpu/possible lists those that can be.'
  }
  if ((type === 'devmap' || type === 'devmap_hash') && (errno === EINVAL || errno === ENODEV)) {
    return "There is no device with that index in this thread's network namespace; `ip link` lists those that are."
  }
  return undefined
}

/** Lookups in per-CPU maps give one value a possible processor, each rounded up to 8 bytes (kernel/bpf/hashtab.c). */
function storedCodec(type: MapType | 'unknown', value: Codec<unknown>): Codec<unknown> {
  if (!isPerCpu(type)) return value
  const cpus = possibleCpus()
  const stride = roundUp(value.size, 8)
  return {
    size: stride * cpus,
    align: 8,
    encode(view, offset, values: unknown[]) {
      if (values.length !== cpus) {
        throw new OptionError(
          'value',
          `A per-CPU value needs ${cpus} elements, one for each possible processor`,
        )
      }
      values.forEach((one, cpu) => value.encode(view, offset + cpu * stride, one))
    },
    decode: (view, offset) =>
      Array.from({ length: cpus }, (_, cpu) => value.decode(view, offset + cpu * stride)),
  } satisfies Codec<unknown[]>
}

// A descriptor that could not be made an object of is closed.
function adopt<T>(fd: number, make: () => T): T {
  try {
    return make()
  } catch (error) {
    native.close(fd)
    throw error
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
