// AF_XDP sockets.
export type { Fragments } from './fragments.js'
export { FramePool } from './frame-pool.js'
export type { LoopHandle, RunOptions } from './loop.js'
export type { BusyPollOptions, CopyMode, Granted, RingSizes, XdpMode, XdpSocketOptions } from './options.js'
export {
  XdpGroup,
  type GroupDevice,
  type GroupWarning,
  type ProgramShape,
  type SteeringProgram,
  type XdpGroupOptions,
} from './group.js'
export { XdpPacket, type PacketHandler, type Verdict } from './packet.js'
export type { PacketRows, RowsHandler } from './packet-rows.js'
export { PRESETS, type Preset, type PresetValues } from './presets.js'
export { XdpSocket } from './socket.js'
export type { FrameCensus, KernelStatistics, SocketStatistics, Traffic } from './statistics.js'
export type { TxBatch } from './tx-batch.js'
export { Umem, type UmemDescription, type UmemOptions } from './umem.js'
export type { WorkerContext, WorkerModule, WorkerTask } from './worker-contract.js'
export type { WorkerCpus } from './worker-cpus.js'
export { XdpWorkerGroup, type WorkerGroupEvents, type XdpWorkerGroupOptions } from './worker-group.js'
export type { RestartPolicy } from './restart.js'
export type { GroupWorker, WorkerState } from './worker-thread.js'
