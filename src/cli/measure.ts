// xdp measure: what became of the packets of `xdp generate`.
import { Command, Option } from 'commander'
import { Measurement, type MeterReport } from '../generate/index.js'
import { wholeNumber, wholeNumbers } from './arguments.js'
import { untilInterrupted } from './interrupt.js'
import { addSteeringOptions, type SteeringFlags } from './program-options.js'
import { requireUp } from './require-up.js'
import { describeGroup } from './run-group.js'
import { addSocketOptions, groupOptions, type SocketFlags } from './socket-options.js'
import { chooseSteering } from './steering.js'

interface MeasureFlags extends SocketFlags, SteeringFlags {
  port?: number
  vlan?: number[]
  count?: number
}

export function measureCommand(): Command {
  return addSteeringOptions(addSocketOptions(new Command('measure')), {
    letter: '',
    own: 'one that gives only what is sent to the port',
    rest: 'what it gives beside numbered packets is dropped',
  })
    .summary('receive what `xdp generate` sends: loss, order and latency')
    .description(
      'Takes the UDP packets for one port off an interface, and says how many of those that `xdp generate` numbered ' +
        'were lost, late or doubled, and how long they took. All other packets pass to the kernel.',
    )
    .argument('<interface>', 'the interface they arrive on')
    .addOption(
      new Option('-p, --port <port>', 'the UDP port (default: 9, discard)')
        .argParser(wholeNumber(1, 65_535))
        .conflicts('program'),
    )
    .addOption(
      new Option('--vlan <ids>', 'take what is tagged with these VLANs too, as in 5,6')
        .argParser(wholeNumbers(0, 4095))
        .conflicts('program'),
    )
    .option('-c, --count <n>', 'end after so many packets', wholeNumber(1, Number.MAX_SAFE_INTEGER))
    .option('--take-traffic', 'with --program: also on loopback, and on the interface of the default route')
    .addHelpText(
      'after',
      '\nLatency is from the stamp in a packet to its handler here, by one clock: on one machine only.' +
        '\nExit status: 0 when packets came and none was lost, 1 otherwise.',
    )
    .action(measure)
}

async function measure(name: string, flags: MeasureFlags): Promise<void> {
  const program = await chooseSteering(flags, name)
  requireUp(name)
  await untilInterrupted(async (signal) => {
    const measurement = await Measurement.open({
      ...groupOptions(name, flags),
      ...(flags.port === undefined ? {} : { port: flags.port }),
      ...(flags.vlan === undefined ? {} : { vlans: flags.vlan }),
      ...(program && { program }),
    })
    const ended = new AbortController()
    const print = () =>
      console.log(flags.json ? JSON.stringify(measurement.report()) : lines(measurement.report()))
    const timer = setInterval(() => {
      if (measurement.report().received > 0) print()
    }, flags.interval * 1000)
    const counting =
      flags.count === undefined
        ? undefined
        : setInterval(() => {
            const { received, lost } = measurement.report()
            if (received + lost >= flags.count!) ended.abort()
          }, LOOK_MS)
    try {
      console.error(`xdp: measuring on ${describeGroup(measurement.group)}`)
      await measurement.run(AbortSignal.any([signal, ended.signal]))
      print()
      const { received, lost } = measurement.report()
      if (received === 0) console.error('xdp: no packet that `xdp generate` numbered has come')
      process.exitCode = received > 0 && lost === 0 ? 0 : 1
    } finally {
      clearInterval(timer)
      clearInterval(counting)
      await measurement.close()
    }
  })
}

const LOOK_MS = 50

function lines({
  received,
  bytes,
  lost,
  reordered,
  duplicates,
  foreign,
  unstamped,
  latency,
}: MeterReport & { unstamped: number }): string {
  const count = (value: number) => value.toLocaleString('en-US')
  const share = received + lost === 0 ? 0 : (lost / (received + lost)) * 100
  const others = foreign + unstamped === 0 ? '' : `; ${count(foreign + unstamped)} of somebody else`
  const first =
    `received ${count(received)} packets, ${count(bytes)} bytes; lost ${count(lost)} (${share.toFixed(3)} %), ` +
    `reordered ${count(reordered)}, duplicates ${count(duplicates)}${others}`
  if (!latency) return first
  const us = (nanoseconds: number) => (nanoseconds / 1e3).toFixed(1)
  return (
    `${first}\nlatency in µs: min ${us(latency.min)}, median ${us(latency.p50)}, 99 % ${us(latency.p99)}, ` +
    `99.9 % ${us(latency.p999)}, max ${us(latency.max)}, mean ${us(latency.mean)}`
  )
}
