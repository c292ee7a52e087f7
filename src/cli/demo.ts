// xdp demo: the whole thing in a few seconds, on two namespaces of its own, judged by the system's ping.
import { existsSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { styleText } from 'node:util'
import { Command, Option } from 'commander'
import { XdpError, inNamespace } from '../kernel/index.js'
import { Lab, type LabEnd } from '../lab/index.js'
import { PingServer } from '../serve/index.js'
import { wholeNumber } from './arguments.js'
import { requireCommand } from './external.js'
import { untilInterrupted } from './interrupt.js'
import type { PongServer } from './pong-program.js'
import { addSteeringOptions, type SteeringFlags } from './program-options.js'
import { describeGroup } from './run-group.js'
import { chooseSteering, type Steering } from './steering.js'
import { TrafficPrinter } from './traffic.js'

interface DemoFlags extends SteeringFlags {
  count: number
  queues: number
  mode: 'auto' | 'native' | 'generic'
}

/** The labs of demos are named for their process. */
const LAB = 'xdpdemo'
const ABANDONED = /^xdpdemo(\d+)$/

/** What one run of ping said at its end. */
interface PingResult {
  sent: number
  received: number
  /** `min/avg/max/mdev` in milliseconds. */
  times: string | undefined
}

export function demoCommand(): Command {
  return addSteeringOptions(new Command('demo'), {
    own: 'one that gives only what is answered',
    rest: 'what it gives and is not answered is dropped; what it passes, the kernel answers',
  })
    .summary('answer real pings in a lab of its own, and show it')
    .description(
      'Makes two network namespaces joined by a virtual cable, answers ping at one end from an AF_XDP socket, ' +
        "runs the system's ping at the other, and removes both. Touches no interface of this machine.",
    )
    .option('-c, --count <n>', 'pings to send with IPv4, and again with IPv6', wholeNumber(1, 10_000), 5)
    .option('--queues <n>', 'queues of the cable', wholeNumber(1, 4096), 1)
    .addOption(
      new Option('-m, --mode <mode>', 'where the XDP program runs')
        .choices(['auto', 'native', 'generic'])
        .default('auto'),
    )
    .addHelpText('after', '\nExit status: 0 when no packet was lost, 1 otherwise.')
    .action(demo)
}

async function demo(flags: DemoFlags): Promise<void> {
  requireCommand('ping', 'iputils-ping')
  const program = await chooseSteering(flags)
  await untilInterrupted(async (signal) => {
    removeAbandoned()
    const lab = Lab.create({ name: `${LAB}${process.pid}`, queues: flags.queues })
    try {
      const server = await openServer(lab.a, flags.mode, program)
      try {
        await show(lab, server, flags.count, signal)
      } finally {
        await server.close()
      }
    } finally {
      lab.down()
    }
  })
  console.log('No packet was lost. The lab is gone again.')
  console.log('Next: `xdp lab up` makes one that stays, and `xdp pong <interface>` answers on it.')
}

/** The responder at an end of the lab, behind its own program or another one. */
async function openServer(
  { interface: name, namespace }: LabEnd,
  mode: DemoFlags['mode'],
  program: Steering | undefined,
): Promise<PongServer> {
  if (!program) return PingServer.open({ interface: name, namespace, mode })
  const { openPong } = await import('./pong-program.js')
  const server = await openPong(program, { interface: name, namespace, mode, addresses: [] })
  server.refreshAddresses()
  return server
}

/** Removes the labs of demos that were killed before they could. */
function removeAbandoned(): void {
  for (const { name } of Lab.list()) {
    const [, pid] = ABANDONED.exec(name) ?? []
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) Lab.remove(name)
  }
}

async function show(lab: Lab, server: PongServer, count: number, signal: AbortSignal): Promise<void> {
  const { a, b } = lab
  console.log('Two network namespaces, joined by a virtual cable; nothing else on this machine is touched.\n')
  console.log(`  a  ${addressesOf(a)}  xdp pong on ${describeGroup(server.group)}`)
  console.log(`  b  ${addressesOf(b)}  the system's ping\n`)

  const pong = lane('pong', 'cyan')
  const traffic = new TrafficPrinter(() => server.group.statistics(), { print: (line) => line && pong(line) })
  const timer = setInterval(() => traffic.print(), 1000)
  const running = server.group.run(server.handle)
  // Should the sockets fail, the pings below get no answer and the failure is reported at the end.
  running.catch(() => undefined)
  const results: PingResult[] = []
  try {
    for (const address of [a.ipv4, a.ipv6]) {
      if (address !== undefined && !signal.aborted) results.push(await ping(lab, address, count, signal))
    }
  } finally {
    clearInterval(timer)
    traffic.print()
    server.group.stop()
  }
  await running
  if (signal.aborted) throw new XdpError('XDP_INTERRUPTED', 'Interrupted; the lab is removed')
  summarise(results, server, kernelEchoes(a))
}

/** Runs the system's ping at end b, its output shown line by line. */
async function ping(lab: Lab, address: string, count: number, signal: AbortSignal): Promise<PingResult> {
  const print = lane('ping', 'green')
  const child = lab.spawn('b', 'ping', ['-n', '-c', String(count), '-i', '0.3', '-W', '2', address], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, LC_ALL: 'C' },
  })
  const stop = () => void child.kill('SIGINT')
  signal.addEventListener('abort', stop)
  let text = ''
  const exited = new Promise((resolve) => child.once('close', resolve))
  for await (const line of createInterface({ input: child.stdout! })) {
    text += `${line}\n`
    if (line !== '') print(line)
  }
  await exited
  signal.removeEventListener('abort', stop)
  const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(text) ?? []
  return {
    sent: Number(sent ?? 0),
    received: Number(received ?? 0),
    times: /= ([\d./]+) ms/.exec(text)?.[1],
  }
}

function summarise(results: readonly PingResult[], server: PongServer, kernelAnswered: number): void {
  const sent = sum(results.map((result) => result.sent))
  const received = sum(results.map((result) => result.received))
  const { echo4, echo6 } = server.counts
  const lost = sent - received
  const percent = sent === 0 ? 100 : Math.round((lost * 100) / sent)
  console.log()
  console.log(`  ping sent ${sent} requests and got ${received} answers: ${percent}% lost`)
  for (const { times } of results) if (times) console.log(`  round trips min/avg/max/mdev ${times} ms`)
  console.log(
    `  node-xdp answered ${echo4} of them with IPv4 and ${echo6} with IPv6; the kernel saw ${kernelAnswered}`,
  )
  console.log()
  if (lost > 0 || sent === 0) {
    throw new XdpError('XDP_DEMO', `${lost} of ${sent} pings were lost`, 'Run it again on a quieter machine.')
  }
}

/** Echo requests that the kernel's own stack of an end has received. */
function kernelEchoes(end: LabEnd): number {
  const read = (file: string) => readFileSync(`/proc/thread-self/net/${file}`, 'utf8')
  const [v4, v6] = inNamespace(end.namespace, () => [
    read('snmp'),
    end.ipv6 === undefined ? '' : read('snmp6'),
  ])
  const [names, values] = v4
    .split('\n')
    .filter((line) => line.startsWith('Icmp:'))
    .map((line) => line.split(' '))
  return Number(values[names.indexOf('InEchos')]) + Number(/Icmp6InEchos\s+(\d+)/.exec(v6)?.[1] ?? 0)
}

function addressesOf(end: LabEnd): string {
  return `${end.interface}  ${[end.ipv4, end.ipv6].filter((address) => address !== undefined).join('  ')}`
}

/** Prints lines behind the name of who speaks. */
function lane(name: string, colour: 'cyan' | 'green'): (line: string) => void {
  const label = process.stdout.isTTY ? styleText(colour, name) : name
  return (line) => console.log(`${label} | ${line}`)
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a + b, 0)
}
