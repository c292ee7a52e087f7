// The public surface of the lab: `node-xdp/lab`.
export { Lab, type ExecOptions, type ExecResult, type LabEnd, type LabListing } from './lab.js'
export type { EndId, LabOptions } from './plan.js'
export type { LabSpawnOptions } from './run.js'
