// CO-RE: what a relocation is about, as a path through types, and whether a type of the kernel has the same path.
// Follows tools/lib/bpf/relo_core.c, whose names the functions keep where there is a counterpart.
import type { Btf } from '../btf/decode.js'
import { BtfError, type BtfArray, type BtfComposite, type BtfMember, type BtfType } from '../btf/types.js'
import { essentialName, fieldsAreCompatible, typesAreCompatible, typesMatch } from './core-compat.js'

/** `enum bpf_core_relo_kind` in order. */
export const CORE_KINDS = [
  'field-offset',
  'field-size',
  'field-exists',
  'field-signed',
  'field-lshift',
  'field-rshift',
  'type-id-local',
  'type-id-kernel',
  'type-exists',
  'type-size',
  'enum-exists',
  'enum-value',
  'type-matches',
] as const
export type CoreKind = (typeof CORE_KINDS)[number]

/** How long a path may be: BPF_CORE_SPEC_MAX_LEN. */
const MAX_PATH = 64
const MAX_DEPTH = 32

/** A step of a path. */
interface Accessor {
  /** The struct, union, enum or array element that it goes through. */
  type: number
  index: number
  /** The member's or the value's name; undefined for an index of an array. */
  name: string | undefined
}

/** A path: `task->comm[2]`, a type, or a value of an enum. */
export interface CoreSpec {
  btf: Btf
  root: number
  kind: CoreKind
  path: Accessor[]
  bitOffset: number
}

export const isTypeKind = (kind: CoreKind): boolean => kind.startsWith('type-')
export const isEnumKind = (kind: CoreKind): boolean => kind.startsWith('enum-')

/** Reads an access string: `0:1:2` is member 2 of member 1 of the type. */
export function parseSpec(btf: Btf, root: number, kind: CoreKind, access: string): CoreSpec {
  const bad = (why: string): never => {
    throw new BtfError(`The CO-RE access "${access.slice(0, 80)}" of type ${root}: ${why}`)
  }
  const spec: CoreSpec = { btf, root, kind, path: [], bitOffset: 0 }
  if (isTypeKind(kind)) {
    if (access !== '0') bad('a whole type has the access "0"')
    return spec
  }
  if (!/^\d{1,9}(:\d{1,9})*$/.test(access)) bad('it is no list of numbers')
  const raw = access.split(':').map(Number)
  if (raw.length > MAX_PATH) bad(`more than ${MAX_PATH} steps`)
  let id = btf.resolve(root)
  const first: Accessor = { type: id, index: raw[0], name: undefined }
  spec.path.push(first)
  if (isEnumKind(kind)) {
    const type = typeOf(btf, id)
    if (type?.kind !== 'enum' && type?.kind !== 'enum64') return bad('the type is no enum')
    if (raw.length > 1 || raw[0] >= type.values.length) bad('the enum has no such value')
    first.name = type.values[raw[0]].name
    return spec
  }
  spec.bitOffset = raw[0] * btf.sizeOf(id) * 8
  for (const index of raw.slice(1)) {
    id = btf.resolve(id)
    const type = typeOf(btf, id)
    if (type?.kind === 'struct' || type?.kind === 'union') {
      const member = type.members[index] as BtfMember | undefined
      if (!member) return bad(`"${type.name}" has no member ${index}`)
      spec.bitOffset += member.bitOffset
      if (member.name !== '') spec.path.push({ type: id, index, name: member.name })
      id = member.type
    } else if (type?.kind === 'array') {
      if (!isFlexible(btf, spec.path.at(-1)!, type) && index >= type.length)
        bad(`the array has ${type.length} elements`)
      id = btf.resolve(type.element)
      spec.path.push({ type: id, index, name: undefined })
      spec.bitOffset += index * btf.sizeOf(id) * 8
    } else {
      bad(`it goes into a ${type?.kind ?? 'void'}`)
    }
  }
  return spec
}

/** The same path in another type; undefined when that type does not have it. */
export function matchSpec(local: CoreSpec, btf: Btf, root: number): CoreSpec | undefined {
  const spec: CoreSpec = { btf, root, kind: local.kind, path: [], bitOffset: 0 }
  if (isTypeKind(local.kind)) {
    const matches =
      local.kind === 'type-matches'
        ? typesMatch(local.btf, local.root, btf, root, false, MAX_DEPTH)
        : typesAreCompatible(local.btf, local.root, btf, root, MAX_DEPTH)
    return matches ? spec : undefined
  }
  let id = btf.resolve(root)
  if (isEnumKind(local.kind)) {
    const type = typeOf(btf, id)
    if (type?.kind !== 'enum' && type?.kind !== 'enum64') return undefined
    const wanted = essentialName(local.path[0].name!)
    const index = type.values.findIndex(({ name }) => essentialName(name) === wanted)
    if (index < 0) return undefined
    spec.path.push({ type: id, index, name: type.values[index].name })
    return spec
  }
  for (const [i, step] of local.path.entries()) {
    id = btf.resolve(id)
    if (step.name !== undefined) {
      const next = matchMember(local.btf, step, spec, id, 0)
      if (next === undefined) return undefined
      id = next
      continue
    }
    // The first step is into the type itself, as if it were an array; later ones are into arrays.
    if (i > 0) {
      const type = typeOf(btf, id)
      if (type?.kind !== 'array') return undefined
      if (!isFlexible(btf, spec.path.at(-1)!, type) && step.index >= type.length) return undefined
      id = btf.resolve(type.element)
    }
    spec.path.push({ type: id, index: step.index, name: undefined })
    if (step.index > 0) spec.bitOffset += step.index * btf.sizeOf(id) * 8
  }
  return spec
}

function typeOf(btf: Btf, id: number): BtfType | undefined {
  return id === 0 ? undefined : btf.type(id)
}

/** The last member of a struct, an array of no length. */
function isFlexible(btf: Btf, through: Accessor, array: BtfArray): boolean {
  if (through.name === undefined || array.length > 0) return false
  const type = btf.type(through.type)
  return (type.kind === 'struct' || type.kind === 'union') && through.index === type.members.length - 1
}

/** Finds a member by name, in anonymous structs and unions too. Its type, or undefined. */
function matchMember(
  localBtf: Btf,
  step: Accessor,
  spec: CoreSpec,
  root: number,
  depth: number,
): number | undefined {
  const { btf } = spec
  const id = btf.resolve(root)
  const type = typeOf(btf, id)
  if ((type?.kind !== 'struct' && type?.kind !== 'union') || depth > MAX_DEPTH) return undefined
  const local = localBtf.type(step.type) as BtfComposite
  for (const [index, member] of type.members.entries()) {
    if (member.name === '') {
      const before = spec.bitOffset
      spec.bitOffset += member.bitOffset
      const found = matchMember(localBtf, step, spec, member.type, depth + 1)
      if (found !== undefined) return found
      spec.bitOffset = before
    } else if (member.name === step.name) {
      if (!fieldsAreCompatible(localBtf, local.members[step.index].type, btf, member.type)) return undefined
      spec.bitOffset += member.bitOffset
      spec.path.push({ type: id, index, name: member.name })
      return member.type
    }
  }
  return undefined
}
