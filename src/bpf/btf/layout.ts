// Where things are in a BTF section: its header, its types, and types by name.
import { BTF_MAGIC, BtfError, HEADER_BYTES, TAIL_BYTES, TYPE_BYTES, kindNames } from './types.js'

/** struct btf_header, checked against the length of the bytes. */
export function readHeader(view: DataView): {
  types: number
  typeBytes: number
  strings: number
  stringBytes: number
} {
  if (view.byteLength < HEADER_BYTES) {
    throw new BtfError(`${view.byteLength} bytes are too few; the header alone has ${HEADER_BYTES}`)
  }
  const magic = view.getUint16(0, true)
  if (magic !== BTF_MAGIC) {
    const isSwapped = view.getUint16(0) === BTF_MAGIC
    throw new BtfError(
      isSwapped
        ? 'The BTF is big endian, for another machine'
        : `No BTF: it begins with 0x${magic.toString(16)}`,
      { offset: 0 },
    )
  }
  const version = view.getUint8(2)
  if (version !== 1) throw new BtfError(`BTF version ${version} is unknown`, { offset: 2 })
  const headerBytes = view.getUint32(4, true)
  if (headerBytes < HEADER_BYTES || headerBytes > view.byteLength) {
    throw new BtfError(`A header of ${headerBytes} bytes`, { offset: 4 })
  }
  const part = (at: number, what: string): [number, number] => {
    const start = headerBytes + view.getUint32(at, true)
    const length = view.getUint32(at + 4, true)
    if (start + length > view.byteLength) {
      throw new BtfError(`The ${what} end at ${start + length}, behind the end (${view.byteLength})`, {
        offset: at,
      })
    }
    return [start, length]
  }
  const [types, typeBytes] = part(8, 'types')
  const [strings, stringBytes] = part(16, 'strings')
  return { types, typeBytes, strings, stringBytes }
}

/** Finds where each type begins. */
export function indexTypes(view: DataView, start: number, length: number): Uint32Array {
  const offsets = new Uint32Array(Math.floor(length / TYPE_BYTES) + 1)
  const end = start + length
  let count = 1
  for (let at = start; at < end;) {
    if (end - at < TYPE_BYTES) throw new BtfError('The types end in the middle of one', { offset: at })
    const info = view.getUint32(at + 4, true)
    const kind = (info >>> 24) & 0x1f
    if (kind === 0 || kind >= sizes.length) {
      throw new BtfError(`A type of the unknown kind ${kind}`, { offset: at })
    }
    offsets[count++] = at
    const [fixed, each] = sizes[kind]
    at += TYPE_BYTES + fixed + each * (info & 0xffff)
    if (at > end) throw new BtfError('The types end in the middle of one', { offset: end })
  }
  return offsets.slice(0, count)
}

const sizes = kindNames.map((kind) => (kind ? TAIL_BYTES[kind] : ([0, 0] as const)))

/** Types by name: chains of ids by the hash of the name up to its flavour. */
export interface NameIndex {
  heads: Int32Array
  next: Int32Array
}

/** Made at the first search: some 15 ms for the kernel's types, where one search through the strings takes 3. */
export function indexNames(view: DataView, offsets: Uint32Array, strings: Uint8Array): NameIndex {
  const size = 2 ** Math.ceil(Math.log2(Math.max(16, offsets.length)))
  const heads = new Int32Array(size)
  const next = new Int32Array(offsets.length)
  for (let id = offsets.length - 1; id > 0; id--) {
    const name = view.getUint32(offsets[id], true)
    if (name === 0 || name >= strings.length) continue
    const slot = hashName(strings, name) & (size - 1)
    next[id] = heads[slot]
    heads[slot] = id
  }
  return { heads, next }
}

/** FNV-1a of at most 64 bytes, up to a NUL or to `___`. */
export function hashName(bytes: Uint8Array, start: number): number {
  let hash = 0x811c9dc5
  for (let at = start; at < start + 64 && at < bytes.length && bytes[at] !== 0; at++) {
    if (bytes[at] === 0x5f && bytes[at + 1] === 0x5f && bytes[at + 2] === 0x5f) break
    hash = Math.imul(hash ^ bytes[at], 0x01000193)
  }
  return hash >>> 0
}
