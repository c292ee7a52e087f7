// A stage with a thread of its own, for tests: does what packets tell it to, such as to crash, and says what it hears.
import type { StageModule } from '../../src/forward/index.js'
import { frameOf, isOurs } from '../support/xsk.js'

/** What a packet may tell a stage: to throw, to end its thread, to lead out of its frame, never to return, to drop it. */
export const FAULT = { none: 0, throw: 1, exit: 2, stray: 3, hang: 4, drop: 5 } as const
export type Fault = keyof typeof FAULT

const AT = 30

/** A packet with a number that tells one of the stages something. */
export function faultFrame(number: number, fault: Fault = 'none', stage = 0): Uint8Array {
  const packet = frameOf(64)
  const view = new DataView(packet.buffer)
  view.setUint32(AT, number)
  view.setUint8(AT + 4, FAULT[fault])
  view.setUint8(AT + 5, stage)
  return packet
}

/** Its number. */
export const numberOf = ({ view, offset }: { view: DataView; offset: number }) => view.getUint32(offset + AT)

const start: StageModule<{ greeting?: string } | undefined> = ({ stage, workerData, port, signal }) => {
  port.on('message', (message) => port.postMessage({ stage, heard: message as unknown, ...workerData }))
  return {
    handler: (packet) => {
      if (!isOurs(packet) || packet.bytes[packet.offset + AT + 5] !== stage) return undefined
      switch (packet.bytes[packet.offset + AT + 4]) {
        case FAULT.throw:
          throw new RangeError(`stage ${stage} cannot bear ${numberOf(packet)}`)
        case FAULT.exit:
          return process.exit(3)
        case FAULT.stray:
          packet.offset += 4096
          return undefined
        case FAULT.hang:
          for (;;);
        case FAULT.drop:
          return 'drop'
      }
      return undefined
    },
    stop: () => port.postMessage({ stage, stopped: signal.aborted }),
  }
}
export default start
