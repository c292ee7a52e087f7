// The public surface of the capture floor.
export { CaptureFileError, CaptureWriteError } from './errors.js'
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
