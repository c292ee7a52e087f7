// Forwarding: `node-xdp/forward`.
export { Forwarder, type ForwarderEvents } from './forwarder.js'
export type { ForwardDevice, ForwardWarning, ForwarderOptions } from './options.js'
export { defineForward, type ForwardProgramOptions } from './program.js'
export type { Rewrite } from './rewrite.js'
export type { StageState, StageThread, StageThreadStatistics } from './stage-thread.js'
export type { ForwardWay, StageContext, StageHandler, StageModule, StageTask } from './stage.js'
export type { ForwardStatistics, StageStatistics } from './statistics.js'
