// tcpdump at an end of a lab: what somebody else sees of the packets there.
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import type { Lab } from '../../src/lab/index.js'
import { until } from './xsk.js'

export interface Tcpdump {
  readonly child: ChildProcess
  /** What it has written to its standard output. */
  readonly text: string
  /** Resolves when it has ended, and all of its text is there. */
  readonly ended: Promise<unknown>
}

/** Starts it with these arguments, after the interface, and waits until it listens. It goes with the lab at the latest. */
export async function startTcpdump(lab: Lab, end: 'a' | 'b', args: readonly string[]): Promise<Tcpdump> {
  const child = lab.spawn(end, 'tcpdump', ['-i', lab[end].interface, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let [text, said] = ['', '']
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => (said += chunk))
  const ended = once(child, 'close')
  await until('tcpdump listens', () => said.includes('listening'))
  return {
    child,
    ended,
    get text() {
      return text
    },
  }
}
