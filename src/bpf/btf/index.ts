// BTF: type information of programs and maps, written and read.
export { BtfBuilder, type MemberToPlace } from './builder.js'
export { StringTable, encodeBtf } from './encode.js'
export { takesBtf } from './from-codec.js'
export { BtfHandle, loadBtf, loadedBtf } from './load.js'
export { encodeFuncInfo, encodeLineInfo, type FuncInfo, type InfoRecords, type LineInfo } from './records.js'
export { BtfError } from './types.js'
export type {
  BtfArray,
  BtfComposite,
  BtfEnum,
  BtfEnum64,
  BtfFloat,
  BtfForward,
  BtfFunction,
  BtfInt,
  BtfKind,
  BtfMember,
  BtfParameter,
  BtfPrototype,
  BtfReference,
  BtfSection,
  BtfSectionVariable,
  BtfTag,
  BtfType,
  BtfTypedef,
  BtfVariable,
  IntEncoding,
  Linkage,
} from './types.js'
export { Btf } from './decode.js'
export { codecOfType } from './to-codec.js'
export { VMLINUX_BTF, kernelBtf } from './vmlinux.js'
