// What the benchmarks of queues, forwarding and presets have in common: a measurement under load, and the figures it makes.
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Lab } from '../src/lab/index.js'
import { median, type Figure } from './figures.js'
import type { GeneratorReport } from './generator.js'
import type { Measured } from './processes.js'
import type { QueuesResult } from './queues-receiver.js'

export interface QueuesOptions {
  rounds: number
  say: (line: string) => void
  /** The C program, or why there is none. */
  reference: { program: string } | { missing: string }
}

/** `packets` are measured, at about `rate` a second (0: as fast as it goes), after `warmUp` of them. */
export interface Load {
  name: string
  rate: number
  warmUp: number
  packets: number
}

export const SIZE = 60
/** The receivers have a processor, whoever sends the other; interrupts of both directions follow who sends. */
export const RECEIVER_CPU = 0
export const SENDER_CPU = 1

/** The command of a receiver of ours, before the job. */
export const RECEIVER: readonly string[] = [
  process.execPath,
  fileURLToPath(new URL('./queues-receiver.js', import.meta.url)),
]

// Time for what is under way to arrive and for signals to be seen. Idle time is not measured: it costs no CPU.
const SETTLE_MS = 200

/** One measurement. */
export interface Sample {
  /** Packets a second. */
  rate: number
  /** Nanoseconds of CPU a packet. */
  cpu: number
  /** Percent. */
  lost: number
}

/** The measurements of each subject, a round each. */
export type Samples = ReadonlyMap<string, readonly Sample[]>

/** Removes the labs when a signal ends the benchmark. Labs that are down by then take no harm. */
export function downOnSignal(...labs: readonly Lab[]): void {
  const stop = () => {
    for (const lab of labs) lab.down()
    process.exit(1)
  }
  process.once('SIGINT', stop).once('SIGTERM', stop)
}

/**
 * Sends `load` to receivers that are ready, and ends them. Arrived is what they say, or what `countArrived` counts at the
 * far end; the CPU is that of a packet that has arrived.
 */
export async function measureLoad(
  { packets, warmUp }: Load,
  receivers: readonly Measured<QueuesResult>[],
  send: (packets: number) => Promise<GeneratorReport>,
  countArrived?: () => number,
): Promise<Sample> {
  await send(warmUp)
  await delay(SETTLE_MS)
  for (const receiver of receivers) receiver.mark()
  await delay(SETTLE_MS)
  const before = countArrived?.() ?? 0
  const sent = await send(packets)
  await delay(SETTLE_MS)
  const beyond = countArrived && countArrived() - before
  let received = 0
  let seconds = 0
  for (const receiver of receivers) {
    const result = await receiver.end()
    received += result.packets
    seconds += result.user + result.system
  }
  const arrived = beyond ?? received
  return {
    rate: arrived / sent.seconds,
    cpu: (seconds * 1e9) / arrived,
    lost: (1 - arrived / sent.packets) * 100,
  }
}

/** Rate, CPU and loss of each subject, medians. Nothing is to be lost where `paced`. */
export function figuresOf(name: string, samples: Samples, paced: boolean): Figure[] {
  return [...samples].flatMap(([subject, list]): Figure[] => {
    const source = (of: string) => `${of}, median of ${list.length}`
    return [
      {
        name,
        subject,
        value: median(list.map(({ rate }) => rate)),
        unit: 'packets/s',
        source: source("arrived, over the sender's time"),
      },
      {
        name: `${name}: CPU`,
        subject,
        value: median(list.map(({ cpu }) => cpu)),
        unit: 'ns/packet',
        source: source('getrusage of the receiver, all threads'),
      },
      {
        name: `${name}: lost`,
        subject,
        value: median(list.map(({ lost }) => lost)),
        unit: '%',
        ...(paced ? { target: 0 } : {}),
        source: source('sent less arrived'),
      },
    ]
  })
}

/** How many times as much one subject is as another: the median of the rounds' ratios. Nothing when one was not measured. */
export function ratioOf(
  name: string,
  samples: Samples,
  of: { over: string; under: string; by: 'cpu' | 'rate'; target?: number },
): Figure[] {
  const [over, under] = [samples.get(of.over), samples.get(of.under)]
  if (!over || !under) return []
  return [
    {
      name,
      subject: `${of.over} / ${of.under}`,
      value: median(over.map((sample, round) => sample[of.by] / under[round][of.by])),
      unit: 'times',
      ...(of.target === undefined ? {} : { target: of.target }),
      source: `the two of a round, median of ${over.length}`,
    },
  ]
}
