// BTF types as plain data: one shape a kind, references by type id (Documentation/bpf/btf.rst, include/uapi/linux/btf.h).
import { XdpError } from '../../kernel/errors.js'

/** BTF that cannot be read, written or loaded: `code` is `XDP_BTF`. */
export class BtfError extends XdpError {
  /** Byte offset in the BTF at fault, where there is one. */
  readonly offset: number | undefined
  /** The kernel's errno, when it was the kernel that refused. */
  readonly errno: number | undefined
  /** The kernel's whole log. Not enumerable, so that printing the error does not print pages. */
  declare readonly log: string | undefined

  constructor(
    message: string,
    { offset, errno, log, hint }: { offset?: number; errno?: number; log?: string; hint?: string } = {},
  ) {
    super('XDP_BTF', offset === undefined ? message : `${message} (at byte ${offset})`, hint)
    this.offset = offset
    this.errno = errno
    Object.defineProperty(this, 'log', { value: log })
  }
}

/** How the bits of an integer are read: BTF_INT_SIGNED, BTF_INT_CHAR, BTF_INT_BOOL, or none of them. */
export type IntEncoding = 'unsigned' | 'signed' | 'char' | 'bool'

/** Who sees a function or variable. The kernel takes no `extern` ones. */
export type Linkage = 'static' | 'global' | 'extern'

/** A member of a struct or union. Bit fields have a `bitSize`; other members leave it out. */
export interface BtfMember {
  /** Empty for an anonymous struct or union. */
  name: string
  type: number
  bitOffset: number
  bitSize?: number
}

/** A parameter of a function; the last one is `{ name: '', type: 0 }` when the function takes more of any type. */
export interface BtfParameter {
  name: string
  type: number
}

/** A variable in a section. */
export interface BtfSectionVariable {
  /** Id of a `var` (or, for kernel functions in `.ksyms`, of a `func`). */
  type: number
  offset: number
  size: number
}

export interface BtfInt {
  kind: 'int'
  name: string
  /** Bytes: 1, 2, 4, 8 or 16. */
  size: number
  /** Default `size * 8`. */
  bits?: number
  /** Default 0. */
  bitOffset?: number
  /** Default `unsigned`. */
  encoding?: IntEncoding
}
/** A pointer, or a modifier, of another type; type 0 is `void`. */
export interface BtfReference {
  kind: 'ptr' | 'const' | 'volatile' | 'restrict'
  type: number
}
export interface BtfArray {
  kind: 'array'
  element: number
  index: number
  length: number
}
export interface BtfComposite {
  kind: 'struct' | 'union'
  name: string
  size: number
  members: readonly BtfMember[]
}
export interface BtfEnum {
  kind: 'enum'
  name: string
  size: number
  /** Default false. */
  signed?: boolean
  values: readonly { name: string; value: number }[]
}
/** Kernel 6.0. */
export interface BtfEnum64 {
  kind: 'enum64'
  name: string
  size: number
  /** Default false. */
  signed?: boolean
  values: readonly { name: string; value: bigint }[]
}
export interface BtfForward {
  kind: 'fwd'
  name: string
  of: 'struct' | 'union'
}
export interface BtfTypedef {
  kind: 'typedef'
  name: string
  type: number
}
export interface BtfFunction {
  kind: 'func'
  name: string
  /** Id of its `func_proto`. */
  type: number
  linkage: Linkage
}
export interface BtfPrototype {
  kind: 'func_proto'
  /** Type it returns; 0 for none. */
  result: number
  parameters: readonly BtfParameter[]
}
export interface BtfVariable {
  kind: 'var'
  name: string
  type: number
  linkage: Linkage
}
export interface BtfSection {
  kind: 'datasec'
  name: string
  size: number
  /** In rising order of offsets. */
  variables: readonly BtfSectionVariable[]
}
export interface BtfFloat {
  kind: 'float'
  name: string
  size: number
}
/** A note on a declaration (5.16), or on a type (5.17). */
export interface BtfTag {
  kind: 'decl_tag' | 'type_tag'
  name: string
  type: number
  /** `decl_tag` only: the member or parameter meant; -1 (the default) for the declaration itself. */
  component?: number
  /** An attribute of the compiler rather than a tag (6.15). */
  attribute?: boolean
}

/** A type. Its id is not in it: ids count from 1, and 0 is `void`. */
export type BtfType =
  | BtfInt
  | BtfReference
  | BtfArray
  | BtfComposite
  | BtfEnum
  | BtfEnum64
  | BtfForward
  | BtfTypedef
  | BtfFunction
  | BtfPrototype
  | BtfVariable
  | BtfSection
  | BtfFloat
  | BtfTag
export type BtfKind = BtfType['kind']

/** BTF_KIND_… */
export const BTF_KINDS: Readonly<Record<BtfKind, number>> = {
  int: 1,
  ptr: 2,
  array: 3,
  struct: 4,
  union: 5,
  enum: 6,
  fwd: 7,
  typedef: 8,
  volatile: 9,
  const: 10,
  restrict: 11,
  func: 12,
  func_proto: 13,
  var: 14,
  datasec: 15,
  float: 16,
  decl_tag: 17,
  type_tag: 18,
  enum64: 19,
}

/** Kinds by number; index 0 is `void`, which has no record. */
export const kindNames: readonly (BtfKind | undefined)[] = (() => {
  const names: (BtfKind | undefined)[] = [undefined]
  for (const kind of Object.keys(BTF_KINDS) as BtfKind[]) names[BTF_KINDS[kind]] = kind
  return names
})()

/** BTF_MAGIC */
export const BTF_MAGIC = 0xeb9f
/** sizeof(struct btf_header) */
export const HEADER_BYTES = 24
/** sizeof(struct btf_type) */
export const TYPE_BYTES = 12
/** BTF_MAX_TYPE, BTF_MAX_NAME_OFFSET and BTF_MAX_VLEN of the kernel. */
export const MAX_VLEN = 0xffff

/** Linkages by number: BTF_FUNC_STATIC and BTF_VAR_STATIC are 0, and so on. */
export const LINKAGES: readonly Linkage[] = ['static', 'global', 'extern']

/** BTF_INT_SIGNED, BTF_INT_CHAR, BTF_INT_BOOL; the kernel takes one of them at most. */
export const INT_ENCODINGS: Readonly<Record<IntEncoding, number>> = {
  unsigned: 0,
  signed: 1,
  char: 2,
  bool: 4,
}

/** Bytes behind the common part of a type: fixed, and for each of its `vlen` parts. */
export const TAIL_BYTES: Readonly<Record<BtfKind, readonly [fixed: number, each: number]>> = {
  int: [4, 0],
  ptr: [0, 0],
  array: [12, 0],
  struct: [0, 12],
  union: [0, 12],
  enum: [0, 8],
  fwd: [0, 0],
  typedef: [0, 0],
  volatile: [0, 0],
  const: [0, 0],
  restrict: [0, 0],
  func: [0, 0],
  func_proto: [0, 8],
  var: [4, 0],
  datasec: [0, 12],
  float: [0, 0],
  decl_tag: [4, 0],
  type_tag: [0, 0],
  enum64: [0, 12],
}
