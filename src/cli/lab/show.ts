// xdp lab status, stats: what labs there are, and what their counters say.
import { setTimeout } from 'node:timers/promises'
import type { Command } from 'commander'
import { describeAttached, queryXdp, type AttachedProgram } from '../../bpf/index.js'
import type { LinkStats } from '../../kernel/netlink/index.js'
import { Lab, type EndId, type LabEnd } from '../../lab/index.js'
import { untilInterrupted } from '../interrupt.js'
import { seconds } from '../arguments.js'
import { table } from '../table.js'
import { labArgument, withLab } from './common.js'

/** A lab, as `xdp lab status --json` prints it. */
interface LabStatus {
  name: string
  /** False for what a crash left of one; it has no ends then. */
  complete: boolean
  isolated: boolean | null
  /** Those inside its namespaces. */
  processes: number[]
  ends: EndStatus[]
}

interface EndStatus extends Omit<LabEnd, 'id' | 'namespace' | 'ipv6'> {
  end: EndId
  /** Null where the end lives in the caller's namespace. */
  namespace: string | null
  ipv6: string | null
  up: boolean
  programs: AttachedProgram[]
}

const ENDS: readonly EndId[] = ['a', 'b']

export function addShowCommands(parent: Command): void {
  parent
    .command('status')
    .summary('show labs')
    .description('Shows all labs of this machine, or one: interfaces, addresses, XDP programs, processes.')
    .argument('[name]', 'only this lab')
    .option('--json', 'print an array of objects, one a lab')
    .action(async (name: string | undefined, { json }: { json?: boolean }) => {
      const labs = name === undefined ? await statusOfAll() : [await statusOfOne(name)]
      if (json) console.log(JSON.stringify(labs, undefined, 2))
      else if (labs.length === 0) console.log('no lab; make one with `xdp lab up`')
      else printStatus(labs)
    })

  parent
    .command('stats')
    .summary('show the counters of both ends')
    .description('Shows what both interfaces of a lab have received and sent.')
    .argument(...labArgument)
    .option('-i, --interval <seconds>', 'show them again and again, until Ctrl-C', seconds)
    .option('--json', 'print an object a line')
    .action((name: string, { interval, json }: { interval?: number; json?: boolean }) =>
      withLab(name, async (lab) => {
        const print = () => console.log(json ? statsLine(lab) : statsTable(lab))
        if (interval === undefined) print()
        else await repeat(print, interval)
      }),
    )
}

async function statusOfAll(): Promise<LabStatus[]> {
  const found: LabStatus[] = []
  for (const { name, complete } of Lab.list()) {
    try {
      found.push(complete ? await statusOf(name) : incomplete(name))
    } catch (error) {
      // Somebody has removed it meanwhile, or is about to.
      const now = Lab.list().find((lab) => lab.name === name)
      if (now?.complete) throw error
      if (now) found.push(incomplete(name))
    }
  }
  return found
}

async function statusOfOne(name: string): Promise<LabStatus> {
  const listing = Lab.list().find((lab) => lab.name === name)
  return listing?.complete === false ? incomplete(name) : statusOf(name)
}

function incomplete(name: string): LabStatus {
  return { name, complete: false, isolated: null, processes: [], ends: [] }
}

/** Throws `NotFoundError`. */
function statusOf(name: string): Promise<LabStatus> {
  return withLab(name, (lab) => {
    const interfaces = lab.interfaces()
    const ends = ENDS.map((end): EndStatus => {
      const { id, namespace, ipv6, ...rest } = lab[end]
      return {
        end: id,
        ...rest,
        namespace: namespace?.name ?? null,
        ipv6: ipv6 ?? null,
        up: interfaces[end].running,
        programs: queryXdp(lab[end].ifindex, { namespace }),
      }
    })
    return { name, complete: true, isolated: lab.isolated, processes: lab.processes(), ends }
  })
}

function printStatus(labs: readonly LabStatus[]): void {
  const rows = labs.flatMap(({ name, ends }) =>
    ends.map((end, i) => [
      i === 0 ? name : '',
      end.end,
      end.interface,
      end.namespace ?? '',
      end.up ? 'up' : 'down',
      String(end.queues),
      String(end.mtu),
      end.mac,
      end.ipv4,
      end.ipv6 ?? '',
      end.programs.map(describeAttached).join(', '),
    ]),
  )
  const headings = [
    'lab',
    'end',
    'interface',
    'namespace',
    'link',
    'queues',
    'mtu',
    'mac',
    'ipv4',
    'ipv6',
    'xdp',
  ]
  if (rows.length > 0) console.log(table(headings, rows))
  for (const { name, complete, processes } of labs) {
    if (!complete) console.log(`${name} is not whole: remove what is left with \`xdp lab down ${name}\``)
    if (processes.length > 0) console.log(`processes inside ${name}: ${processes.join(', ')}`)
  }
}

function statsLine(lab: Lab): string {
  return JSON.stringify({ time: new Date().toISOString(), lab: lab.name, ends: lab.stats() })
}

function statsTable(lab: Lab): string {
  const stats = lab.stats()
  const columns = [
    ['rx packets', 'rxPackets'],
    ['rx bytes', 'rxBytes'],
    ['rx dropped', 'rxDropped'],
    ['rx errors', 'rxErrors'],
    ['tx packets', 'txPackets'],
    ['tx bytes', 'txBytes'],
    ['tx dropped', 'txDropped'],
    ['tx errors', 'txErrors'],
  ] as const satisfies [string, keyof LinkStats][]
  return table(
    ['end', 'interface', ...columns.map(([heading]) => heading)],
    ENDS.map((end) => [
      end,
      lab[end].interface,
      ...columns.map(([, counter]) => stats[end][counter].toLocaleString('en-US')),
    ]),
  )
}

/** Calls `print` at once, and every interval until SIGINT or SIGTERM. */
function repeat(print: () => void, seconds: number): Promise<void> {
  return untilInterrupted(async (signal) => {
    while (!signal.aborted) {
      print()
      await setTimeout(seconds * 1000, undefined, { signal }).catch(() => undefined) // Only stopping cuts it short.
    }
  })
}
