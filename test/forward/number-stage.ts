// A stage with a thread of its own, for tests: marks packets with its number, drops every n-th, throws when told so.
import { threadId } from 'node:worker_threads'
import type { StageModule } from '../../src/forward/index.js'
import { isOurs } from '../support/xsk.js'

/** What the tests tell it. */
export interface NumberStageData {
  /** Which stage is to drop every n-th packet, and n. */
  drop?: [stage: number, every: number]
  /** Which stage is to throw at its n-th packet, and n. */
  fail?: [stage: number, at: number]
}

const start: StageModule<NumberStageData> = ({ stage, stages, ways, workerData: { drop, fail } }) => {
  if (ways.length !== 2 || stages < 1 || threadId === 0) throw new Error('not in a thread of a forwarder')
  let count = 0
  return (packet, way) => {
    if (!isOurs(packet)) return
    count++
    if (fail?.[0] === stage && count === fail[1]) throw new RangeError(`stage ${stage} has had enough`)
    packet.bytes[packet.offset + 20 + stage] = 100 + stage + way.index
    packet.length -= 1
    return drop?.[0] === stage && count % drop[1] === 0 ? 'drop' : undefined
  }
}
export default start
