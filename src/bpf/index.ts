// The bpf floor's surface: assembler, maps, programs, attachments, pins, info of what is loaded.
export * as asm from './asm.js'
export type {
  Code,
  Condition,
  Label,
  LoadSize,
  MapHandle,
  MapTarget,
  Operation,
  Register,
  StoreSize,
} from './asm.js'
export {
  AssemblerError,
  assemble,
  type AssembledProgram,
  type MapReference,
  type ProgramFunction,
  type SourceLine,
} from './assembler.js'
export { attachXdp, type AttachOptions } from './attach.js'
export { XdpAttachment, type ProgramHandle } from './attachment.js'
export { describeHolders, holdersOf, type Held, type Holder } from './attachment-holders.js'
export {
  Btf,
  BtfBuilder,
  BtfError,
  BtfHandle,
  VMLINUX_BTF,
  codecOfType,
  encodeBtf,
  encodeFuncInfo,
  encodeLineInfo,
  kernelBtf,
  loadBtf,
  loadedBtf,
  takesBtf,
  type BtfKind,
  type BtfType,
  type FuncInfo,
  type InfoRecords,
  type LineInfo,
} from './btf/index.js'
export {
  createMap,
  defineFunction,
  defineMap,
  defineXdp,
  updateChecksum,
  type ChecksumOptions,
  LoadedXdp,
  Value,
  Variable,
  Xdp,
  XdpDefinition,
  type Condition as ProgramCondition,
  type FunctionDefinition,
  type MapDefinition,
  type MapOf,
  type XdpLoadOptions,
  type XdpOptions,
} from './builder/index.js'
export {
  array,
  be16,
  be32,
  bytes,
  counter,
  cpumapValue,
  devmapValue,
  prefixKey,
  s32,
  s64,
  struct,
  u16,
  u32,
  u64,
  u8,
} from './codec.js'
export type {
  ArrayCodec,
  Codec,
  Decoded,
  IntegerCodec,
  IntegerKind,
  PrefixKey,
  StructCodec,
} from './codec.js'
export {
  XDP_ACTIONS,
  kernelName,
  type AttachType,
  type LinkType,
  type MapType,
  type ProgramType,
  type Verdict,
} from './constants.js'
export { possibleCpus } from './cpus.js'
export {
  disassemble,
  disassembleInstruction,
  listing,
  type DisassembleNames,
  type DisassembledLine,
} from './disassemble.js'
export {
  BpfObject,
  ElfError,
  LoadedObject,
  type LinkedProgram,
  type LoadObjectOptions,
  type ObjectGlobal,
  type ObjectMap,
  type ObjectProgram,
} from './elf/index.js'
export {
  probeFrags,
  probeHelper,
  probeLiveFrames,
  probeMapType,
  probeProgramType,
  probeXdpLink,
  type Feature,
} from './features.js'
export { BPF_FUNC, helperName, type HelperName } from './helpers.js'
export {
  enableRunStatistics,
  linkInfo,
  linkInfoById,
  mapInfo,
  mapInfoById,
  objectIds,
  programInfo,
  programInfoById,
  translatedInstructions,
  type LinkInfo,
  type MapInfo,
  type ObjectKind,
  type ProgramInfo,
} from './info.js'
export {
  decodeInstruction,
  decodeProgram,
  encodeInstruction,
  encodeProgram,
  type Instruction,
} from './instruction.js'
export { BpfMap, type MapCodecs, type UpdateMode } from './map.js'
export type { CreateMapOptions } from './map-options.js'
export { BPF_FILE_SYSTEM, ensureBpfFileSystem, unpin } from './pin.js'
export type { LoadOptions, LogLevel, ProgramTypeInfo } from './load.js'
export { BpfProgram } from './program.js'
export {
  XdpBusyError,
  describeAttached,
  detachLinkById,
  detachXdp,
  queryXdp,
  type AttachedProgram,
  type DetachOptions,
  type QueryOptions,
} from './query.js'
export { RecordBatch, RingBuffer, type RecordHandler, type RingBufferCounters } from './ringbuf.js'
export { captureSources, currentLocation, sourceText, type SourceLocation } from './source.js'
export type { LiveRunOptions, LiveRunResult, TestContext, TestRunOptions, TestRunResult } from './test-run.js'
export { VerifierError } from './verifier.js'
