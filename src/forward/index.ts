// Forwarding: `node-xdp/forward`.
export { Forwarder } from './forwarder.js'
export type { ForwardDevice, ForwardWarning, ForwarderOptions } from './options.js'
export { defineForward, type ForwardProgramOptions } from './program.js'
export type { Rewrite } from './rewrite.js'
export type { ForwardWay, StageContext, StageHandler, StageModule } from './stage.js'
export type { ForwardStatistics } from './statistics.js'
