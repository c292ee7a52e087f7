// Whether a map is the one that a program was made for: when it is handed in, or found pinned.
import { OptionError } from '../kernel/errors.js'
import type { MapType } from './constants.js'
import { type MapInfo, mapInfo } from './info.js'

/** What the instructions of a program rely on. Sizes in bytes. */
export interface MapForm {
  type: MapType
  keySize: number
  valueSize: number
}

/** All that a map was declared as. */
export interface MapDeclaration extends MapForm {
  maxEntries: number
  /** BPF_F_… */
  flags: number
  extra: number
}

const BPF_F_NO_PREALLOC = 1 << 0
const BPF_F_RDONLY_PROG = 1 << 7

/** All through one helper, which looks at the map's own type: bpf_redirect_map. */
const forRedirect: ReadonlySet<string> = new Set<MapType>(['devmap', 'devmap_hash', 'cpumap', 'xskmap'])

/**
 * Throws `OptionError` when a map handed in for `name` is not of the declared type and sizes: a program would read and write what is
 * beside its keys and values. One for redirecting may stand in for another, as devices for sockets in a trial run. `what` is what it
 * is for: `the object`.
 */
export function requireForm(
  name: string,
  declared: MapForm,
  map: { readonly fd: number },
  what: string,
): void {
  const got = mapInfo(map.fd)
  const isOther = got.type !== declared.type && !(forRedirect.has(got.type) && forRedirect.has(declared.type))
  const differences = [
    ...(isOther ? [`type ${got.type} instead of ${declared.type}`] : []),
    ...sizes(declared, got),
  ]
  if (differences.length === 0) return
  throw new OptionError(
    'maps',
    `The map handed in as "${name}" does not fit ${what}: ${differences.join(', ')}`,
  )
}

/** In what a map is not as declared, in words; undefined when in nothing (libbpf: map_is_reuse_compat). */
export function declaredOtherwise(
  declared: MapDeclaration,
  map: { readonly fd: number },
): string | undefined {
  const got = mapInfo(map.fd)
  const isDevices = declared.type === 'devmap' || declared.type === 'devmap_hash'
  // What the kernel sets by itself (kernel/bpf/devmap.c: dev_map_init_map), and what tries are never without here.
  const flags = isDevices ? got.flags & ~(BPF_F_RDONLY_PROG & ~declared.flags) : got.flags
  const wantedFlags = declared.type === 'lpm_trie' ? declared.flags | BPF_F_NO_PREALLOC : declared.flags
  const differences = [
    ...(got.type === declared.type ? [] : [`type ${got.type} instead of ${declared.type}`]),
    ...sizes(declared, got),
    ...differs('max_entries', got.maxEntries, declared.maxEntries),
    ...differs('map_flags', hex(flags), hex(wantedFlags)),
    ...differs('map_extra', hex(got.extra), hex(declared.extra)),
  ]
  return differences.length === 0 ? undefined : differences.join(', ')
}

function sizes(declared: MapForm, got: MapInfo): string[] {
  return [
    ...differs('size of keys', got.keySize, declared.keySize),
    ...differs('size of values', got.valueSize, declared.valueSize),
  ]
}

function differs(what: string, got: string | number, declared: string | number): string[] {
  return got === declared ? [] : [`${what} ${got} instead of ${declared}`]
}

const hex = (bits: number): string => `0x${bits.toString(16)}`
