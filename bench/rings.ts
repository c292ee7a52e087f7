// Descriptor recycle and parse-and-swap on simulated rings: what the TypeScript itself costs, without a kernel.
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Figure, Section } from './figures.js'
import type { RingsResult } from './rings-scenario.js'

/** The scenarios of rings-scenario.ts: [name, subject, most nanoseconds a packet]. */
const SCENARIOS: readonly (readonly [string, string, number?])[] = [
  ['recycle', 'bare rings', 5],
  ['recycle by the pool', 'bare rings'],
  ['parse-and-swap', 'bare rings', 20],
  ['reflect', 'bare rings'],
  ['socket recycle', 'XdpSocket.receive', 5],
  ['socket parse-and-swap', 'XdpSocket.receive', 20],
  ['socket reflect', 'XdpSocket.receive'],
  ['socket answers ping', 'XdpSocket.receive'],
]

export async function benchRings(say: (line: string) => void): Promise<Section> {
  const script = fileURLToPath(new URL('./rings-scenario.js', import.meta.url))
  const figures: Figure[] = []
  for (const [scenario, subject, target] of SCENARIOS) {
    say(`rings: ${scenario}`)
    const { stdout } = await promisify(execFile)(process.execPath, [script, scenario])
    const result = JSON.parse(stdout) as RingsResult
    const name = scenario.replace('socket ', '')
    const time = { name, subject, unit: 'ns/packet', ...(target === undefined ? {} : { target }) }
    const millions = result.packets / 1e6
    figures.push(
      { ...time, value: result.median, source: `rings-scenario, median of ${result.rounds} rounds` },
      { ...time, value: result.best, source: `rings-scenario, best of ${result.rounds} rounds` },
      {
        name: `${name}: heap growth`,
        subject,
        value: result.heapGrowth,
        unit: 'bytes',
        source: `heapUsed over ${millions} million packets`,
      },
      {
        name: `${name}: collections`,
        subject,
        value: result.collections,
        unit: 'times',
        target: 0,
        source: `young generation, PerformanceObserver("gc"), over ${millions} million packets`,
      },
    )
  }
  return {
    title: 'Simulated rings',
    figures,
    notes: [
      '4096 frames of 2048 bytes, rings of 2048, batches of 64; the time of the simulated kernel is not counted.',
    ],
  }
}
