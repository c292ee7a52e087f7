// Maps as programs declare them: a name, a type and codecs. They exist once the program is loaded.
import { type AnyCodec, type Decoded, type IntegerCodec, u32 } from '../codec.js'
import { MAP_TYPES, type MapType } from '../constants.js'
import { BpfMap, type DefaultKey, type Stored } from '../map.js'
import type { MapForm } from '../map-fit.js'
import type { CreateMapOptions, IndexedMapType, ReferenceMapType } from '../map-options.js'
import { OptionError } from '../../kernel/errors.js'
import { shown } from './kinds.js'
import { programError } from './location.js'

type U32 = IntegerCodec<number, 'u32'>

/** What a map is declared as. The options are those of `BpfMap.create`. */
export type MapOptions<T extends MapType, KC extends AnyCodec, VC extends AnyCodec> = Omit<
  CreateMapOptions<T, never, never>,
  'name' | 'key' | 'value'
> & {
  /** What it is called in the kernel, and when the program is loaded with a map of yours in its place. */
  name: string
  key?: KC
  value?: VC
}

/** A declared map. For a ring buffer `value` is the record's type. */
export interface MapDefinition<
  T extends MapType = MapType,
  KC extends AnyCodec = AnyCodec,
  VC extends AnyCodec = AnyCodec,
> {
  readonly type: T
  readonly name: string
  readonly key: KC
  readonly value: VC
  readonly maxEntries: number
  readonly options: Omit<CreateMapOptions<T, never, never>, 'name' | 'key' | 'value'>
}

type KeyCodec<T extends MapType, KC extends AnyCodec> = [KC] extends [never]
  ? T extends IndexedMapType
    ? U32
    : AnyCodec
  : KC
type ValueCodec<T extends MapType, VC extends AnyCodec> = [VC] extends [never]
  ? T extends ReferenceMapType
    ? U32
    : AnyCodec
  : VC

/** The map that a definition makes. */
export type MapOf<D> =
  D extends MapDefinition<infer T, infer KC, infer VC>
    ? BpfMap<
        unknown extends Decoded<KC> ? DefaultKey<T> : Decoded<KC>,
        T extends MapType ? Stored<T, Decoded<VC>> : never
      >
    : never

/** Declares a map. Nothing happens in the kernel. Throws `OptionError`, with the line, for what cannot be a map. */
export function defineMap<const T extends MapType, KC extends AnyCodec = never, VC extends AnyCodec = never>(
  options: MapOptions<T, KC, VC>,
): MapDefinition<T, KeyCodec<T, KC>, ValueCodec<T, VC>> {
  const { name, key = u32, value = u32, ...rest } = options
  if (typeof name !== 'string' || name === '')
    throw programError('name', `${shown(name)} is no name for a map`)
  if (!Object.hasOwn(MAP_TYPES, options.type))
    throw programError('type', `The map "${name}" cannot be made: ${shown(options.type)} is no type of map`)
  return {
    type: options.type,
    name,
    key,
    value,
    maxEntries: options.maxEntries,
    options: rest,
  } as unknown as MapDefinition<T, KeyCodec<T, KC>, ValueCodec<T, VC>>
}

/** What the program's instructions rely on. */
export function formOf({ type, key, value }: MapDefinition): MapForm {
  // What a ring buffer is declared with is the form of its records.
  if (type === 'ringbuf') return { type, keySize: 0, valueSize: 0 }
  return { type, keySize: key.size, valueSize: value.size }
}

/** Makes the map that was declared. `btf` says what its keys and values are. Throws what `BpfMap.create` throws. */
export function createMap<D extends MapDefinition>(
  definition: D,
  btf?: { fd: number; keyTypeId: number; valueTypeId: number },
): MapOf<D> {
  const { type, name, key, value, options } = definition
  const typed = type === 'ringbuf' ? {} : { key, value }
  try {
    return BpfMap.create({ ...options, ...typed, ...(btf && { btf }), name }) as unknown as MapOf<D>
  } catch (error) {
    if (!(error instanceof OptionError)) throw error
    throw new OptionError(error.option, `The map "${name}" cannot be made: ${error.message}`, error.hint)
  }
}
