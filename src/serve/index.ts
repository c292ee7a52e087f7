// Servers over AF_XDP.
export { PingServer, type PingServerOptions } from './ping-server.js'
export { Responder, type ResponderCounts } from './responder.js'
export {
  UdpMessage,
  UdpServer,
  UdpWorkerServer,
  createUdpServer,
  defaultInterface,
  type RateLimit,
  type RateLimitOptions,
  type UdpCounts,
  type UdpDropCounts,
  type UdpHandler,
  type UdpServerOptions,
  type UdpService,
  type UdpTask,
  type UdpWorkerContext,
  type UdpWorkerModule,
  type UdpWorkerServerOptions,
} from './udp.js'
export { notifyManager, type Readiness } from './readiness.js'
