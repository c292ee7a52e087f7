// node-xdp: AF_XDP sockets and what most programs need beside them. More in node-xdp/bpf, /packet, /kernel and /lab.
export {
  KernelError,
  Namespace,
  NotFoundError,
  OptionError,
  StateError,
  UnsupportedError,
  XdpError,
} from './kernel/index.js'
export {
  BpfMap,
  BpfProgram,
  VerifierError,
  XdpAttachment,
  XdpBusyError,
  attachXdp,
  detachXdp,
  queryXdp,
  type AttachOptions,
  type AttachedProgram,
} from './bpf/index.js'
export {
  Filter,
  FilterError,
  compileFilter,
  defineFilterProgram,
  fileResolver,
  matchFilter,
  requireMatch,
  type Explanation,
  type FilterErrorCode,
  type FilterOptions,
  type FilterVerdicts,
  type Resolver,
  type SystemFiles,
} from './filter/index.js'
export * from './xsk/index.js'
export { CaptureEngine, CaptureWriter, type CaptureOptions, type CaptureStatistics } from './capture/index.js'
export { RedirectProgram } from './programs/redirect.js'
export {
  PingServer,
  Responder,
  UdpMessage,
  UdpServer,
  UdpWorkerServer,
  createUdpServer,
  defaultInterface,
  notifyManager,
  type PingServerOptions,
  type RateLimit,
  type RateLimitOptions,
  type Readiness,
  type ResponderCounts,
  type UdpCounts,
  type UdpDropCounts,
  type UdpHandler,
  type UdpServerOptions,
  type UdpService,
  type UdpTask,
  type UdpWorkerContext,
  type UdpWorkerModule,
  type UdpWorkerServerOptions,
} from './serve/index.js'
export * from './capture/index.js'
