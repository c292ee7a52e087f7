// CO-RE: when a type of the kernel may stand for one of an object. Follows tools/lib/bpf/relo_core.c.
import type { Btf } from '../btf/decode.js'
import type { BtfArray, BtfKind, BtfType } from '../btf/types.js'

/** How deep types are compared. */
const MAX_DEPTH = 32

/** A name without its flavour: `task_struct` for `task_struct___old`. */
export function essentialName(name: string): string {
  return /^(.*[^_])___[^_]/.exec(name)?.[1] ?? name
}

const isEnum = (kind: BtfKind | undefined): boolean => kind === 'enum' || kind === 'enum64'
const isComposite = (kind: BtfKind | undefined): boolean => kind === 'struct' || kind === 'union'
const kindsAreCompatible = (a: BtfKind | undefined, b: BtfKind | undefined): boolean =>
  a === b || (isEnum(a) && isEnum(b))
const nameOf = (type: BtfType): string => ('name' in type ? type.name : '')

/** Whether candidates of a kind are worth looking at for a local type. */
export function isCandidateKind(local: BtfKind, target: BtfKind): boolean {
  return kindsAreCompatible(local, target)
}

/** bpf_core_fields_are_compat */
export function fieldsAreCompatible(localBtf: Btf, localId: number, btf: Btf, id: number): boolean {
  for (let depth = 0; depth < MAX_DEPTH; depth++) {
    const local = localBtf.resolved(localId)
    const target = btf.resolved(id)
    if (isComposite(local?.kind) && isComposite(target?.kind)) return true
    if (!local || !target || !kindsAreCompatible(local.kind, target.kind)) return false
    switch (local.kind) {
      case 'ptr':
      case 'float':
        return true
      case 'fwd':
      case 'enum':
      case 'enum64': {
        const [a, b] = [essentialName(nameOf(local)), essentialName(nameOf(target))]
        return a === '' || b === '' || a === b
      }
      case 'int':
        return (local.bitOffset ?? 0) === 0 && target.kind === 'int' && (target.bitOffset ?? 0) === 0
      case 'array':
        localId = local.element
        id = (target as BtfArray).element
        break
      default:
        return false
    }
  }
  return false
}

/** __bpf_core_types_are_compat */
export function typesAreCompatible(
  localBtf: Btf,
  localId: number,
  btf: Btf,
  id: number,
  depth: number,
): boolean {
  for (; depth > 0; depth--) {
    const local = localBtf.resolved(localId)
    const target = btf.resolved(id)
    if (!local || !target) return local === target
    if (!kindsAreCompatible(local.kind, target.kind)) return false
    switch (local.kind) {
      case 'struct':
      case 'union':
      case 'enum':
      case 'enum64':
      case 'fwd':
        return true
      case 'int':
        return (local.bitOffset ?? 0) === 0 && target.kind === 'int' && (target.bitOffset ?? 0) === 0
      case 'ptr':
        localId = local.type
        id = (target as { type: number }).type
        break
      case 'array':
        localId = local.element
        id = (target as BtfArray).element
        break
      case 'func_proto': {
        if (target.kind !== 'func_proto' || local.parameters.length !== target.parameters.length) return false
        const rest = depth - 1
        const same = local.parameters.every(({ type }, i) =>
          typesAreCompatible(localBtf, type, btf, target.parameters[i].type, rest),
        )
        if (!same) return false
        localId = local.result
        id = target.result
        break
      }
      default:
        return false
    }
  }
  return false
}

/** bpf_core_names_match */
function namesMatch(local: string, target: string): boolean {
  return target === '' ? local === '' : essentialName(local) === essentialName(target)
}

/** __bpf_core_types_match */
export function typesMatch(
  localBtf: Btf,
  localId: number,
  btf: Btf,
  id: number,
  isBehindPointer: boolean,
  depth: number,
): boolean {
  for (; depth > 0; depth--) {
    const local = localBtf.resolved(localId)
    const target = btf.resolved(id)
    if (!local || !target) return local === target
    if (!namesMatch(nameOf(local), nameOf(target))) return false
    switch (local.kind) {
      case 'fwd':
        if (target.kind === 'fwd') return local.of === target.of
        return isBehindPointer && target.kind === local.of
      case 'enum':
      case 'enum64': {
        if (target.kind !== 'enum' && target.kind !== 'enum64') return false
        const names: readonly { name: string }[] = target.values
        return (
          local.values.length <= names.length &&
          local.values.every(({ name }) => names.some((other) => namesMatch(name, other.name)))
        )
      }
      case 'struct':
      case 'union': {
        if (isBehindPointer)
          return target.kind === 'fwd' ? target.of === local.kind : target.kind === local.kind
        if (target.kind !== local.kind || local.members.length > target.members.length) return false
        const rest = depth - 1
        return local.members.every(({ name, type }) =>
          target.members.some(
            (other) =>
              namesMatch(name, other.name) && typesMatch(localBtf, type, btf, other.type, false, rest),
          ),
        )
      }
      case 'int':
        return (
          target.kind === 'int' &&
          local.size === target.size &&
          (local.encoding === 'signed') === (target.encoding === 'signed')
        )
      case 'ptr':
        if (target.kind !== 'ptr') return false
        isBehindPointer = true
        localId = local.type
        id = target.type
        break
      case 'array':
        if (target.kind !== 'array' || local.length !== target.length) return false
        localId = local.element
        id = target.element
        break
      case 'func_proto': {
        if (target.kind !== 'func_proto' || local.parameters.length !== target.parameters.length) return false
        const rest = depth - 1
        const behind = isBehindPointer
        const same = local.parameters.every(({ type }, i) =>
          typesMatch(localBtf, type, btf, target.parameters[i].type, behind, rest),
        )
        if (!same) return false
        localId = local.result
        id = target.result
        break
      }
      default:
        return false
    }
  }
  return false
}
