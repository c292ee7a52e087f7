// Which processes hold a program, a link or an AF_XDP socket open, as /proc tells (Documentation/filesystems/proc.rst).
import { readFileSync, readdirSync, readlinkSync } from 'node:fs'
import { basename } from 'node:path'

/** A process with a descriptor of a program or link. */
export interface Holder {
  pid: number
  /** The name of its program: `node`. */
  command: string
}

/** What to look for: a link by id, else a program by id. */
export interface Held {
  linkId: number | undefined
  programId: number
}

/**
 * The processes that hold a link open or, where it is not attached by link, the program. Looks through the descriptors of all
 * processes, so it is for errors. Empty when there are none (a pin holds it, or the kernel alone) and for those of other
 * users without CAP_SYS_PTRACE.
 */
export function holdersOf({ linkId, programId }: Held): Holder[] {
  const kind = linkId === undefined ? /bpf-prog/ : /bpf[-_]link/
  const line = new RegExp(
    linkId === undefined ? `^prog_id:\\s*${programId}$` : `^link_id:\\s*${linkId}$`,
    'm',
  )
  return numbersIn('/proc').flatMap((pid) => {
    const holds = numbersIn(`/proc/${pid}/fd`).some((fd) => {
      const target = orUndefined(() => readlinkSync(`/proc/${pid}/fd/${fd}`)) ?? ''
      return kind.test(target) && line.test(textOf(`/proc/${pid}/fdinfo/${fd}`))
    })
    return holds ? [{ pid, command: programOf(pid) }] : []
  })
}

// Where a socket's fill ring is mapped (XDP_UMEM_PGOFF_FILL_RING in include/uapi/linux/if_xdp.h): no other kind of socket has it.
const FILL_RING = /^\S+ \S+ 0*100000000 \S+ \d+ +socket:\[\d+\]$/m

/** The processes that have a queue's AF_XDP socket, of any interface, as far as we may look into them. For errors too. */
export function xdpSocketOwners(): Holder[] {
  return numbersIn('/proc').flatMap((pid) =>
    FILL_RING.test(textOf(`/proc/${pid}/maps`)) ? [{ pid, command: programOf(pid) }] : [],
  )
}

// Not only /proc/PID/comm: that is the name of the main thread, which Node since 24 calls `MainThread`.
function programOf(pid: number): string {
  const path = orUndefined(() => readlinkSync(`/proc/${pid}/exe`))
  return path === undefined ? textOf(`/proc/${pid}/comm`).trim() : basename(path.replace(/ \(deleted\)$/, ''))
}

/** `node (pid 12), xdp-loader (pid 14)` */
export function describeHolders(holders: readonly Holder[]): string {
  // A process chooses its name, and may put into it what a terminal would act on.
  return holders.map(({ pid, command }) => `${command.replaceAll(/[^ -~]/g, '?')} (pid ${pid})`).join(', ')
}

/** Nothing for a process that ended meanwhile, or that we may not look into. */
function numbersIn(folder: string): number[] {
  const names = orUndefined(() => readdirSync(folder)) ?? []
  return names.filter((name) => /^\d+$/.test(name)).map(Number)
}

function textOf(path: string): string {
  return orUndefined(() => readFileSync(path, 'utf8')) ?? ''
}

function orUndefined<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}
