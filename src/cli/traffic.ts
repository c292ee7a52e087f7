// The counters every interval: the XDP tutorial's two lines, or a JSON object.
import { performance } from 'node:perf_hooks'
import type { SocketStatistics, Traffic } from '../xsk/index.js'

/** Prints counters and the rates since the last time. */
export class TrafficPrinter {
  readonly #read: () => SocketStatistics
  readonly #json: boolean
  readonly #print: (line: string) => void
  #last: { at: number; rx: Traffic; tx: Traffic }

  constructor(
    read: () => SocketStatistics,
    options: { json?: boolean | undefined; print?: (line: string) => void },
  ) {
    this.#read = read
    this.#json = options.json ?? false
    this.#print = options.print ?? ((line) => console.log(line))
    const { rx, tx } = read()
    this.#last = { at: performance.now(), rx, tx }
  }

  /** Prints what has come and gone up to now. */
  print(): void {
    const statistics = this.#read()
    const at = performance.now()
    const period = (at - this.#last.at) / 1000
    const rx = { ...statistics.rx, ...rates(statistics.rx, this.#last.rx, period) }
    const tx = { ...statistics.tx, ...rates(statistics.tx, this.#last.tx, period) }
    this.#last = { at, rx: statistics.rx, tx: statistics.tx }
    if (this.#json) {
      this.#print(JSON.stringify({ ...statistics, time: new Date().toISOString(), period, rx, tx }))
    } else {
      this.#print(trafficLine('AF_XDP RX:', rx, period))
      this.#print(trafficLine('       TX:', tx, period))
      this.#print('')
    }
  }
}

interface Rates {
  packetsPerSecond: number
  bitsPerSecond: number
}

function rates(now: Traffic, before: Traffic, period: number): Rates {
  return {
    packetsPerSecond: (now.packets - before.packets) / period,
    bitsPerSecond: ((now.bytes - before.bytes) * 8) / period,
  }
}

/** One line as xdp-tutorial's af_xdp_user prints it. */
export function trafficLine(label: string, traffic: Traffic & Rates, period: number): string {
  const count = (value: number, width: number) => Math.floor(value).toLocaleString('en-US').padStart(width)
  const rate = (value: number, width: number) => Math.round(value).toLocaleString('en-US').padStart(width)
  return (
    `${label.padEnd(12)} ${count(traffic.packets, 11)} pkts (${rate(traffic.packetsPerSecond, 10)} pps) ` +
    `${count(traffic.bytes / 1000, 11)} Kbytes (${rate(traffic.bitsPerSecond / 1e6, 6)} Mbits/s) ` +
    `period:${period.toFixed(6)}`
  )
}
