// What was read from an object file: what the parts of the loader hand each other.
import type { Btf } from '../btf/decode.js'
import type { Codec } from '../codec.js'
import type { ExtSection } from './ext.js'
import type { ElfFile } from './file.js'
import type { ElfFunction } from './link.js'
import type { MapSpec } from './maps.js'
import type { SectionKind } from './sections.js'

/** A global variable of an object. */
export interface ObjectGlobal {
  name: string
  section: string
  /** Bytes. */
  size: number
  /** In `.rodata`: programs and the verifier take it for a constant. */
  isConstant: boolean
}

/** What the parts of the loader know of an object. Not for users. */
export interface ObjectContents {
  name: string
  file: ElfFile
  btf: Btf | undefined
  ext: ReadonlyMap<string, ExtSection>
  functions: ReadonlyMap<number, ReadonlyMap<number, ElfFunction>>
  maps: readonly MapSpec[]
  entries: ReadonlyMap<string, { function: ElfFunction; kind: SectionKind | undefined }>
  globals: ReadonlyMap<string, GlobalPlace>
  license: string
  /** Bytes of the sections of global data that were changed. */
  data: Map<number, Uint8Array>
  maxEntries: Map<string, number>
}

/** Where a variable is. */
export interface GlobalPlace extends ObjectGlobal {
  map: MapSpec
  offset: number
  codec: Codec<unknown>
}

/** What a section of global data holds before any program runs: a copy. */
export function initialData({ file, data }: ObjectContents, map: MapSpec): Uint8Array {
  const changed = data.get(map.section)
  if (changed) return changed
  const bytes = new Uint8Array(map.valueSize)
  bytes.set(file.sections[map.section].bytes)
  return bytes
}
