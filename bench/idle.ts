// The responder at rest and at work: CPU while nothing comes, memory beside the UMEM.
import { readFileSync, readdirSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { BpfProgram, asm, attachXdp } from '../src/bpf/index.js'
import { Lab } from '../src/lab/index.js'
import { median, type Section } from './figures.js'
import { Generator, onCpu } from './processes.js'

export interface IdleOptions {
  /** How long to watch the responder do nothing. */
  seconds: number
  say: (line: string) => void
}

const XDP = fileURLToPath(new URL('../../bin/xdp.js', import.meta.url))
const UMEM_BYTES = 4096 * 2048
const PINGS = 500e3
const PING_RATE = 50e3
// Printing the counters is work that the user asked for.
const NEVER = '86400'

export async function benchIdle({ seconds, say }: IdleOptions): Promise<Section> {
  const lab = Lab.create()
  const stop = () => {
    lab.down()
    process.exit(1)
  }
  process.once('SIGINT', stop).once('SIGTERM', stop)
  const sink = BpfProgram.load({ type: 'xdp', name: 'bench_sink', code: [asm.mov(asm.r0, 1), asm.exit()] })
  try {
    const responder = onCpu(0, () =>
      lab.spawn('a', process.execPath, [XDP, 'pong', lab.a.interface, '--interval', NEVER], {
        sysfs: 'host',
        stdio: ['ignore', 'ignore', 'pipe'],
      }),
    )
    const pid = responder.pid!
    let ended = false
    let errors = ''
    responder.once('exit', () => (ended = true))
    responder.stderr?.setEncoding('utf8').on('data', (text: string) => (errors += text))
    for (let i = 0; !errors.includes('answering for'); i++) {
      if (ended || i === 200) throw new Error(`xdp pong did not start: ${errors}`)
      await delay(50)
    }
    await delay(1000) // what is left of starting up
    say(`idle: watching xdp pong do nothing for ${seconds} s`)
    // By the second: some ten seconds after start-up V8 collects its garbage once.
    const slices: number[] = []
    for (let i = 0; i < seconds; i++) {
      const before = cpuSeconds(pid)
      await delay(1000)
      slices.push(cpuSeconds(pid) - before)
    }
    const idleMemory = residentBytes(pid) - UMEM_BYTES

    say(`idle: sending it ${PINGS / 1e3} thousand pings`)
    const attachment = attachXdp(sink, {
      interface: lab.b.ifindex,
      namespace: lab.b.namespace,
      mode: 'native',
    })
    const generator = await Generator.start(lab, 1)
    const order = { size: 98, rate: PING_RATE, ping: true }
    await generator.send({ ...order, packets: PINGS / 5 })
    await delay(200)
    const returned = lab.stats().b.rxPackets
    const sent = await generator.send({ ...order, packets: PINGS })
    await delay(200)
    const answered = lab.stats().b.rxPackets - returned
    const loadedMemory = residentBytes(pid) - UMEM_BYTES
    await generator.close()
    attachment.detach()
    responder.kill('SIGTERM')

    const threads = '/proc/PID/task/*/schedstat'
    const cpu = { subject: 'xdp pong', unit: '% of a CPU' }
    const memory = {
      unit: 'bytes',
      target: 80 * 2 ** 20,
      source: 'VmRSS of /proc/PID/status, less 4096 frames of 2048 bytes',
    }
    return {
      title: 'The responder (xdp pong)',
      figures: [
        {
          ...cpu,
          name: 'idle: CPU',
          value: median(slices) * 100,
          source: `${threads}, median second of ${seconds}`,
        },
        {
          ...cpu,
          name: 'idle: CPU, busiest second',
          value: Math.max(...slices) * 100,
          source: `${threads}, of ${seconds} seconds`,
        },
        { name: 'idle: memory beside the UMEM', subject: 'xdp pong', value: idleMemory, ...memory },
        {
          name: 'pings answered',
          subject: 'xdp pong',
          value: (answered / PINGS) * 100,
          unit: '%',
          source: `replies at the far end over ${PINGS} requests at ${(PINGS / sent.seconds / 1e3).toFixed(0)} k/s`,
        },
        { name: 'loaded: memory beside the UMEM', subject: 'xdp pong', value: loadedMemory, ...memory },
      ],
      notes: [],
    }
  } finally {
    sink.close()
    lab.down()
    process.off('SIGINT', stop).off('SIGTERM', stop)
  }
}

/** What all threads of a process have run so far (first field of schedstat: nanoseconds on a processor). */
export function cpuSeconds(pid: number): number {
  return readdirSync(`/proc/${pid}/task`)
    .map(
      (thread) => Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]) / 1e9,
    )
    .reduce((sum, seconds) => sum + seconds, 0)
}

function residentBytes(pid: number): number {
  const match = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return Number(match?.[1]) * 1024
}
