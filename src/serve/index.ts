// Servers over AF_XDP.
export { PingServer, type PingServerOptions } from './ping-server.js'
export { Responder, type ResponderCounts } from './responder.js'
export {
  UdpMessage,
  UdpServer,
  createUdpServer,
  defaultInterface,
  type RateLimit,
  type RateLimitOptions,
  type UdpCounts,
  type UdpDropCounts,
  type UdpHandler,
  type UdpServerOptions,
} from './udp.js'
export { notifyManager, type Readiness } from './readiness.js'
