// Makes the maps of an object: sizes and types as declared, pins by name, global data, first elements.
import { join } from 'node:path'
import { KernelError, NotFoundError, OptionError } from '../../kernel/errors.js'
import { PAGE_SIZE } from '../../kernel/memory.js'
import type { Btf } from '../btf/decode.js'
import { takesBtf } from '../btf/from-codec.js'
import { codecOfType } from '../btf/to-codec.js'
import { BtfError } from '../btf/types.js'
import { type Codec, bytes, cpumapValue, devmapValue, u32 } from '../codec.js'
import type { MapType } from '../constants.js'
import { possibleCpus } from '../cpus.js'
import { BpfMap } from '../map.js'
import { declaredOtherwise } from '../map-fit.js'
import { isIndexed, isPerCpu, isReference } from '../map-options.js'
import { BPF_FILE_SYSTEM } from '../pin.js'
import type { BpfProgram } from '../program.js'
import { ElfError, printable } from './error.js'
import type { MapSpec } from './maps.js'
import { type ObjectContents, initialData } from './contents.js'

/** The object's types in the kernel. */
export interface MapBtf {
  fd: number
}

/** Where a map is to be pinned; undefined for those that are not. */
export function pinPath(spec: MapSpec, folder: string | false = BPF_FILE_SYSTEM): string | undefined {
  return spec.isPinned && folder !== false ? join(folder, spec.name) : undefined
}

/** Makes a map. The caller owns it. Throws `ElfError` for a declaration that cannot be. */
export function createObjectMap(contents: ObjectContents, spec: MapSpec, types: MapBtf | undefined): BpfMap {
  if (spec.role !== 'map' && addressesIn(contents, spec)) {
    throw new ElfError(
      'The variables hold addresses of others (an array of pointers), which cannot be known before loading',
      { section: spec.name },
      'Use arrays of characters or indices instead of pointers.',
    )
  }
  const map = create(contents, spec, types)
  try {
    if (spec.role !== 'map') {
      const data = initialData(contents, spec)
      if (spec.role !== 'bss' || contents.data.has(spec.section)) map.update(0, data)
      if (spec.role === 'rodata') map.freeze()
    }
    return map
  } catch (error) {
    map.close()
    throw error
  }
}

/** Puts the elements in that the object gives: maps into maps of maps, programs into program arrays. */
export function fillObjectMap(
  spec: MapSpec,
  map: BpfMap,
  loaded: { maps: ReadonlyMap<string, BpfMap>; programs: ReadonlyMap<string, BpfProgram> },
): void {
  for (const { index, kind, name } of spec.initial) {
    const element = kind === 'map' ? loaded.maps.get(name) : loaded.programs.get(name)
    if (!element) {
      throw new ElfError(`The element ${index}, "${printable(name)}", is no ${kind} of the object`, {
        symbol: spec.name,
      })
    }
    map.update(index, element.fd)
  }
}

/** Opens the map that is pinned there, if there is one. Throws `ElfError` when it is another than was declared. */
export function openPinnedMap(contents: ObjectContents, spec: MapSpec, path: string): BpfMap | undefined {
  const another = (how: string): ElfError =>
    new ElfError(
      `What is pinned at ${path} is another map: ${how}`,
      { symbol: spec.name },
      `Take the pin away when nobody needs that map any more (rm ${path}).`,
    )
  let map: BpfMap
  try {
    map = BpfMap.openPinned(path, {
      ...codecs(contents.btf, spec),
      perCpu: isPerCpu(spec.type),
    })
  } catch (error) {
    if (error instanceof NotFoundError) return undefined
    throw error instanceof OptionError ? another(error.message) : error
  }
  const how = declaredOtherwise({ ...spec, maxEntries: entriesOf(contents, spec) }, map)
  if (how === undefined) return map
  map.close()
  throw another(how)
}

function addressesIn({ file }: ObjectContents, spec: MapSpec): boolean {
  return (file.relocations.get(spec.section)?.length ?? 0) > 0
}

function create(contents: ObjectContents, spec: MapSpec, types: MapBtf | undefined): BpfMap {
  const hasTypes = types !== undefined && (spec.keyTypeId > 0 || spec.valueTypeId > 0) && takesBtf(spec.type)
  const inner = spec.inner && create(contents, spec.inner, types)
  try {
    const { key, value } = codecs(contents.btf, spec)
    const options = {
      type: spec.type,
      name: spec.role === 'map' ? spec.name : dataName(contents.name, spec.name),
      key,
      value,
      maxEntries: entriesOf(contents, spec),
      flags: spec.flags,
      extra: spec.extra,
      ...(spec.numaNode > 0 && { numaNode: spec.numaNode }),
      ...(inner && { innerMap: inner }),
    }
    if (!hasTypes) return BpfMap.create<MapType, unknown, unknown>(options)
    const btf = { fd: types.fd, keyTypeId: spec.keyTypeId, valueTypeId: spec.valueTypeId }
    try {
      return BpfMap.create<MapType, unknown, unknown>({ ...options, btf })
    } catch (error) {
      // Some maps take no types, or not these: they work without.
      if (!(error instanceof KernelError)) throw error
      return BpfMap.create<MapType, unknown, unknown>(options)
    }
  } catch (error) {
    if (!(error instanceof OptionError)) throw error
    throw new ElfError(`The map cannot be made: ${error.message}`, { symbol: spec.name }, error.hint, {
      cause: error,
    })
  } finally {
    inner?.close()
  }
}

/** What was set; else as libbpf chooses where the object leaves it open: one entry a processor, ring buffers of whole pages. */
function entriesOf(contents: ObjectContents, { name, type, maxEntries }: MapSpec): number {
  const set = contents.maxEntries.get(name)
  if (set !== undefined) return set
  if (type === 'perf_event_array' && maxEntries === 0) return possibleCpus()
  if (type !== 'ringbuf' && type !== 'user_ringbuf') return maxEntries
  let size = PAGE_SIZE
  while (size < maxEntries) size *= 2
  return size
}

/**
 * The map of a section of global variables, as libbpf calls it: `.rodata` of `filter.xdp.o` is `filter.rodata`, sections of names of
 * their own (`.data.mine`) keep these. The kernel keeps 15 characters.
 */
export function dataName(object: string, section: string): string {
  const isUsual = ['.data', '.rodata', '.bss'].includes(section)
  return isUsual ? `${object.split('.')[0].slice(0, 8)}${section}` : section
}

/** Keys and values by their C types; where there are none, numbers for what is an index or a descriptor, else bytes. */
function codecs(btf: Btf | undefined, spec: MapSpec): { key: Codec<unknown>; value: Codec<unknown> } {
  const number = u32 as Codec<unknown>
  const typed = (id: number, size: number): Codec<unknown> => {
    try {
      if (btf && id > 0 && spec.role === 'map') {
        const codec = codecOfType(btf, id)
        if (codec.size === size) return codec
      }
    } catch (error) {
      if (!(error instanceof BtfError)) throw error
    }
    return bytes(size)
  }
  const refers = isReference(spec.type)
  const entry = spec.type === 'cpumap' ? cpumapValue : devmapValue
  return {
    key: isIndexed(spec.type) && spec.keySize === 4 ? number : typed(spec.keyTypeId, spec.keySize),
    value:
      refers && spec.valueSize === 4
        ? number
        : refers && spec.valueSize === 8
          ? entry
          : typed(spec.valueTypeId, spec.valueSize),
  }
}
