// Receiving by one queue and by two of a veth: a thread a queue, one thread for both, and C with a process a queue.
import { attachXdp } from '../src/bpf/index.js'
import { Lab } from '../src/lab/index.js'
import { RedirectProgram } from '../src/programs/redirect.js'
import type { Figure, Section } from './figures.js'
import { Generator, Measured } from './processes.js'
import type { QueuesResult } from './queues-receiver.js'
import type { QueuesOrder } from './queues-sender.js'
import {
  RECEIVER,
  RECEIVER_CPU,
  SENDER_CPU,
  SIZE,
  downOnSignal,
  figuresOf,
  measureLoad,
  ratioOf,
  type Load,
  type QueuesOptions,
  type Sample,
} from './queues-shared.js'

/** Starts the processes that receive on the first `queues` queues, and undoes what it set up for them. */
type Start = (lab: Lab, queues: number) => Promise<{ receivers: Measured<QueuesResult>[]; close: () => void }>

// Of each queue when paced: a second queue brings its own packets. As fast as it goes, the queues share what the sender can.
const LOADS: readonly Load[] = [
  { name: 'receive', rate: 0, warmUp: 400e3, packets: 800e3 },
  { name: 'receive, paced', rate: 100e3, warmUp: 100e3, packets: 200e3 },
]
const QUEUES = [1, 2] as const
// Two queues against one, in CPU a packet: what is less than this counts as equal.
const EQUAL = 1.05
// How long the link gathers packets before it tells the receiver: as devices moderate their interrupts. Without it a veth wakes the
// receiver for nearly each packet of a sending socket, and waking up is all that is measured.
export const GATHER_NS = 100_000
const WORKERS = 'node-xdp, a thread a queue'
const ONE_THREAD = 'node-xdp, one thread'
const C = 'C (libxdp), a process a queue'

export async function benchReceive({ rounds, say, reference }: QueuesOptions): Promise<Section> {
  const starts: Record<string, Start> = { [WORKERS]: startOurs('workers'), [ONE_THREAD]: startOurs('group') }
  const notes: string[] = []
  if ('program' in reference) starts[C] = startReference(reference.program)
  else notes.push(reference.missing)
  const called = (who: string, queues: number) => `${who}, ${queues === 1 ? '1 queue' : `${queues} queues`}`
  const figures: Figure[] = []
  using lab = Lab.create({ queues: 2 })
  downOnSignal(lab)
  await moderate(lab)
  const sender = await Generator.start<QueuesOrder>(lab, SENDER_CPU, 'queues-sender.js')
  const measure = async (start: Start, load: Load, queues: number): Promise<Sample> => {
    const { receivers, close } = await start(lab, queues)
    try {
      const share = load.rate > 0 ? queues : 1
      return await measureLoad(load, receivers, (packets) =>
        sender.send({ packets: packets * share, size: SIZE, rate: load.rate * queues, queues }),
      )
    } finally {
      close()
    }
  }
  try {
    for (const load of LOADS) {
      const samples = new Map<string, Sample[]>()
      for (let round = 0; round < rounds; round++) {
        for (const [who, start] of Object.entries(starts)) {
          for (const queues of QUEUES) {
            const subject = called(who, queues)
            say(`queues: ${load.name}, round ${round + 1} of ${rounds}, ${subject}`)
            const list = samples.get(subject) ?? []
            samples.set(subject, list)
            list.push(await measure(start, load, queues))
          }
        }
      }
      figures.push(...figuresOf(load.name, samples, load.rate > 0))
      for (const who of Object.keys(starts)) {
        const [over, under] = [called(who, 2), called(who, 1)]
        figures.push(
          ...ratioOf(`${load.name}: CPU ratio`, samples, { over, under, by: 'cpu', target: EQUAL }),
        )
      }
    }
  } finally {
    await sender.close()
  }
  notes.push(
    'Two AF_XDP sockets on one thread send, 64 packets to each queue by turns. That thread also runs the receiving end of the ' +
      'veth, so the CPU is that of wake-ups and rings. It sends slower than receivers receive.',
    'Paced: 100 k/s for each queue. Else the queues share what the sender can, so that two have half as many packets a wake-up.',
    `The receiving end gathers packets for ${GATHER_NS / 1e3} µs at a time, as devices moderate their interrupts.`,
    'All that receives shares one processor, one queue or two: what a queue of its own costs, not what a further processor gains.',
  )
  return { title: `One queue and two of a veth, native mode, copy, packets of ${SIZE} bytes`, figures, notes }
}

/** Has NAPI of end `a` run by the timer while packets flow (Documentation/networking/napi.rst, "Software IRQ coalescing"). */
export async function moderate(lab: Lab): Promise<void> {
  const device = `/sys/class/net/${lab.a.interface}`
  const set = `echo ${GATHER_NS} > ${device}/gro_flush_timeout && echo 2 > ${device}/napi_defer_hard_irqs`
  const { status, stderr } = await lab.exec('a', 'sh', ['-c', set])
  if (status !== 0) throw new Error(`Interrupts of ${lab.a.interface} cannot be moderated: ${stderr}`)
}

function startOurs(job: 'workers' | 'group'): Start {
  return async (lab, queues) => {
    const command = [...RECEIVER, job, '-i', lab.a.interface, '-q', String(queues)]
    return { receivers: [await Measured.start(lab, RECEIVER_CPU, command)], close: () => undefined }
  }
}

function startReference(program: string): Start {
  return async (lab, queues) => {
    const { ifindex, namespace, interface: name } = lab.a
    // A device has one program, so both processes put their sockets into its map.
    const redirect = RedirectProgram.load({ queues: lab.a.queues })
    const attachment = attachXdp(redirect.program, { interface: ifindex, namespace, mode: 'native' })
    const close = () => {
      attachment.detach()
      redirect.close()
    }
    try {
      const receivers: Measured<QueuesResult>[] = []
      for (let queue = 0; queue < queues; queue++) {
        const command = [
          program,
          'rxdrop',
          '-i',
          name,
          '-q',
          String(queue),
          '-x',
          String(redirect.sockets.id),
        ]
        receivers.push(await Measured.start(lab, RECEIVER_CPU, command))
      }
      return { receivers, close }
    } catch (error) {
      close()
      throw error
    }
  }
}
