// xdp status: which XDP programs are attached, to what, and how.
import { readFileSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import { Command } from 'commander'
import {
  describeHolders,
  enableRunStatistics,
  holdersOf,
  mapInfoById,
  programInfoById,
  queryXdp,
  type AttachedProgram,
  type Holder,
} from '../bpf/index.js'
import { KernelError, Namespace, NotFoundError, hasCapability } from '../kernel/index.js'
import { getInterface, listInterfaces, type Interface } from '../kernel/interfaces.js'
import { seconds } from './arguments.js'
import { table } from './table.js'

interface StatusFlags {
  namespace?: string
  json?: boolean
  count?: number
}

/** An attached program, as `xdp status --json` prints it. */
interface Attachment {
  interface: string
  ifindex: number
  /** The namespace looked into by name; null for the caller's. */
  namespace: string | null
  mode: AttachedProgram['mode']
  id: number
  name: string | null
  /** 16 hex digits: a hash of the instructions. */
  tag: string | null
  attachedBy: AttachedProgram['kind']
  /** Null when not attached by link. */
  linkId: number | null
  /** ISO 8601. */
  loadedAt: string | null
  /** User id. */
  loadedBy: number | null
  /** Processes that hold the link, or the program when it was attached otherwise; those of others are seen by root only. */
  heldBy: Holder[]
  maps: { id: number; name: string; type: string }[]
  /** Runs and the time spent in them while run-time statistics were on; null when they never were. */
  runs: { count: number; nanoseconds: number } | null
}

export function statusCommand(): Command {
  return new Command('status')
    .summary('list the XDP programs that are attached')
    .description('Lists the XDP programs attached to all interfaces, or to one.')
    .argument('[interface]', 'only this interface')
    .option('-n, --namespace <name>', 'look into this network namespace (a lab has xdp-<lab>-b)')
    .option('-c, --count <seconds>', 'switch the counting of runs on first, for so long', seconds)
    .option('--json', 'print an array of objects, one a program')
    .addHelpText(
      'after',
      '\nRuns are counted only while somebody wants that, as it costs each some 20 ns: with --count, or as long as\n' +
        '`sysctl -w kernel.bpf_stats_enabled=1` says so. What is printed is the sum of all such times.\n' +
        'Exit status: 0 also when nothing is attached, 1 when the interface or namespace is not there.',
    )
    .action(async (name: string | undefined, flags: StatusFlags) => {
      if (flags.count !== undefined) await countRuns(flags.count)
      const attachments = listAttachments(name, flags.namespace)
      if (attachments.length > 0 && !maySeePrograms()) {
        console.error('xdp: names, tags and how it is attached take CAP_SYS_ADMIN to see; run as root')
      }
      if (flags.json) console.log(JSON.stringify(attachments, undefined, 2))
      else if (attachments.length > 0) console.log(attachmentTable(attachments))
      else console.log(`no XDP program attached${name === undefined ? '' : ` to ${name}`}`)
    })
}

function listAttachments(name: string | undefined, namespaceName: string | undefined): Attachment[] {
  const namespace = namespaceName === undefined ? undefined : Namespace.open(namespaceName)
  try {
    const programsOf = (link: Interface) =>
      attachedTo(link, namespace).map((program) => describe(link, program, namespaceName))
    if (name !== undefined) return programsOf(getInterface(name, { namespace }))
    return listInterfaces({ namespace })
      .filter((link) => link.xdp.mode !== 'none')
      .flatMap((link) => unlessGone(() => programsOf(link)))
  } finally {
    namespace?.close()
  }
}

/** What the kernel tells everybody is the mode and the id. */
function attachedTo(link: Interface, namespace: Namespace | undefined): AttachedProgram[] {
  if (maySeePrograms()) return queryXdp(link.index, { namespace })
  const programs = Object.entries(link.xdp.programs) as [AttachedProgram['mode'], number][]
  return programs.map(([mode, id]) => ({
    mode,
    id,
    name: undefined,
    tag: undefined,
    kind: 'unknown',
    linkId: undefined,
    loadedBy: undefined,
  }))
}

/** Opening programs, maps and links by id takes CAP_SYS_ADMIN (bpf_prog_get_fd_by_id in kernel/bpf/syscall.c). */
function maySeePrograms(): boolean {
  return hasCapability('CAP_SYS_ADMIN')
}

/** Nothing for an interface that went away after it was listed. */
function unlessGone<T>(read: () => T[]): T[] {
  try {
    return read()
  } catch (error) {
    if (error instanceof NotFoundError) return []
    if (error instanceof KernelError && error.code === 'ENODEV') return []
    throw error
  }
}

function describe(link: Interface, program: AttachedProgram, namespace: string | undefined): Attachment {
  const info = maySeePrograms() ? programInfoById(program.id) : undefined
  const counted = info !== undefined && (info.runCount > 0n || countsRuns())
  return {
    interface: link.name,
    ifindex: link.index,
    namespace: namespace ?? null,
    mode: program.mode,
    id: program.id,
    name: program.name ?? null,
    tag: program.tag ?? null,
    attachedBy: program.kind,
    linkId: program.linkId ?? null,
    loadedAt: info ? new Date(bootTime() + Number(info.loadedAt / 1_000_000n)).toISOString() : null,
    loadedBy: info?.createdByUid ?? null,
    heldBy: holdersOf({ linkId: program.linkId, programId: program.id }),
    maps: (info?.mapIds ?? []).flatMap((id) => {
      const map = mapInfoById(id)
      return map ? [{ id, name: map.name, type: map.type }] : []
    }),
    runs: counted ? { count: Number(info.runCount), nanoseconds: Number(info.runTimeNs) } : null,
  }
}

function attachmentTable(attachments: readonly Attachment[]): string {
  return table(
    ['interface', 'mode', 'program', 'name', 'tag', 'attached by', 'held by', 'loaded', 'maps', 'runs'],
    attachments.map((it) => [
      it.interface,
      it.mode,
      String(it.id),
      it.name ?? '',
      it.tag ?? '',
      it.linkId === null ? it.attachedBy : `link ${it.linkId}`,
      describeHolders(it.heldBy),
      it.loadedAt === null ? '' : `${it.loadedAt.slice(0, 16).replace('T', ' ')}Z by uid ${it.loadedBy}`,
      it.maps.map(({ id, name, type }) => `${id} ${name === '' ? type : name}`).join(', '),
      it.runs === null ? '' : describeRuns(it.runs),
    ]),
  )
}

function describeRuns({ count, nanoseconds }: { count: number; nanoseconds: number }): string {
  const each = count === 0 ? '' : `, ${Math.round(nanoseconds / count)} ns each`
  return `${count.toLocaleString('en-US')}${each}`
}

/** Milliseconds since 1970 when the machine was started: what the kernel counts load times from (CLOCK_BOOTTIME). */
function bootTime(): number {
  return Date.now() - Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]) * 1000
}

/** Has the kernel count the runs of all programs for so many seconds (5.8, CAP_SYS_ADMIN). */
async function countRuns(seconds: number): Promise<void> {
  const counting = enableRunStatistics()
  await setTimeout(seconds * 1000)
  counting.close()
}

function countsRuns(): boolean {
  try {
    return readFileSync('/proc/sys/kernel/bpf_stats_enabled', 'utf8').trim() === '1'
  } catch {
    return false // Before 5.1 runs are not counted.
  }
}
