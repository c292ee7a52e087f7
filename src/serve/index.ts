// Servers over AF_XDP.
export { PingServer, type PingServerOptions } from './ping-server.js'
export { Responder, type ResponderCounts } from './responder.js'
