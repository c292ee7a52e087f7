// From codecs to BTF: the types of a map's keys and values, so that bpftool prints them by field name.
import type { Codec } from '../codec.js'
import type { MapType } from '../constants.js'
import type { IntEncoding } from './types.js'

/** Maps that the kernel refuses BTF for (`map_check_no_btf`), and those without keys. */
const untyped = new Set<MapType>([
  'perf_event_array',
  'cgroup_array',
  'stack_trace',
  'array_of_maps',
  'hash_of_maps',
  'prog_array',
  'devmap',
  'devmap_hash',
  'cpumap',
  'xskmap',
  'sockmap',
  'sockhash',
  'queue',
  'stack',
  'ringbuf',
  'user_ringbuf',
  'bloom_filter',
  'reuseport_sockarray',
  'arena',
])

/** Whether the kernel takes BTF for maps of a type. */
export function takesBtf(type: MapType): boolean {
  return !untyped.has(type)
}

const integers: Readonly<
  Record<string, readonly [name: string, size: number, encoding: 'unsigned' | 'signed']>
> = {
  u8: ['unsigned char', 1, 'unsigned'],
  u16: ['unsigned short', 2, 'unsigned'],
  u32: ['unsigned int', 4, 'unsigned'],
  u64: ['unsigned long long', 8, 'unsigned'],
  s8: ['signed char', 1, 'signed'],
  s16: ['short', 2, 'signed'],
  s32: ['int', 4, 'signed'],
  s64: ['long long', 8, 'signed'],
}

/** Where types go; each call gives the type's id. `BtfBuilder` is one. */
export interface TypeSink {
  int(name: string, size: number, encoding?: IntEncoding): number
  typedef(name: string, type: number): number
  array(element: number, length: number): number
  struct(
    name: string,
    members: readonly { name: string; type: number; bitOffset: number }[],
    size: number,
  ): number
}

/** Adds the type of a codec; a codec that says nothing of its shape becomes an array of bytes. */
export function addCodec(btf: TypeSink, codec: Codec<unknown>, name = ''): number {
  const { shape } = codec
  switch (shape?.kind) {
    case 'integer': {
      const [intName, size, encoding] = integers[shape.type]
      const int = btf.int(intName, size, encoding)
      return shape.bigEndian ? btf.typedef(`__be${size * 8}`, btf.typedef(`__u${size * 8}`, int)) : int
    }
    case 'array':
      return btf.array(addCodec(btf, shape.element), shape.length)
    case 'struct': {
      const members = shape.members.map((member) => ({
        name: identifier(member.name),
        type: addCodec(btf, member.codec),
        bitOffset: member.offset * 8,
      }))
      return btf.struct(name === '' ? '' : identifier(name), members, codec.size)
    }
    case undefined:
      return btf.array(btf.int('unsigned char', 1), codec.size)
  }
}

/** A name as BTF takes it: a C identifier. */
function identifier(name: string): string {
  const cleaned = name.replace(/[^A-Za-z0-9_]/g, '_')
  return /^[0-9]/.test(cleaned) ? `_${cleaned}` : cleaned
}
