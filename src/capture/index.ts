// The public surface of the capture floor.
export { configOptions, parseConfig, printConfig, type CaptureConfig, type ConfigWarning } from './config.js'
export { DivertSource, type DivertSourceOptions } from './divert-source.js'
export {
  CaptureEngine,
  type CaptureStatistics,
  type EngineEvents,
  type ModeSwitch,
  type PacketConsumer,
} from './engine.js'
export type { Fallback } from './engine-open.js'
export type { CaptureOptions, LiveMode } from './engine-options.js'
export { MirrorSource, type MirrorSourceOptions } from './mirror-source.js'
export { CaptureFileError, CaptureWriteError, InterfaceGoneError } from './errors.js'
export { FileSource, type FileSourceOptions } from './file-source.js'
export { PacketFormatter, type FormatOptions } from './format.js'
export { packetToJson, packetToJsonLine, type JsonLayer, type JsonOptions, type JsonPacket } from './json.js'
export { PacketRing, type PacketRingOptions } from './packet-ring.js'
export { CaptureReader } from './reader.js'
export { loadServices } from './services.js'
export type {
  PacketFilter,
  PacketSink,
  PacketSource,
  SourceDrops,
  SourceMode,
  SourceStatistics,
} from './source.js'
export {
  CaptureWriter,
  type CaptureWriterOptions,
  type RotateOptions,
  type WriterStatistics,
} from './writer.js'
export { PacketBatch } from '../packet/pcap-batch.js'
export { PacketRecord, type PacketDirection } from '../packet/pcap-record.js'
export type { InterfaceInfo, InterfaceStatistics } from '../packet/pcapng-layout.js'
