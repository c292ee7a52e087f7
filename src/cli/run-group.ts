// Runs sockets until the user or the system says stop, printing counters on the way.
import type { PacketHandler, XdpGroup, XdpSocket } from '../xsk/index.js'
import type { SocketFlags } from './socket-options.js'
import { TrafficPrinter } from './traffic.js'

/** Runs `handler` over the group until `signal` aborts, then closes it. `everyInterval` is called before each print. */
export async function runGroup(
  group: XdpGroup,
  handler: PacketHandler,
  flags: Pick<SocketFlags, 'interval' | 'json'>,
  signal: AbortSignal,
  everyInterval?: () => void,
): Promise<void> {
  for (const { message } of group.warnings) console.error(`xdp: warning: ${message}`)
  const traffic = new TrafficPrinter(() => group.statistics(), flags)
  let failure: unknown
  const timer = setInterval(() => {
    try {
      everyInterval?.()
      traffic.print()
    } catch (error) {
      // The interface went away, say. An exception in a timer would end the process with everything attached.
      failure = error
      group.stop()
    }
  }, flags.interval * 1000)
  try {
    await group.run(handler, { signal, wait: 'poll' })
    if (failure !== undefined) throw failure as Error
    traffic.print()
  } finally {
    clearInterval(timer)
    await group.close()
  }
}

/** What there is to say of a group, of threads or of none. */
export interface GroupSummary extends Pick<XdpGroup, 'interface' | 'attachment'> {
  sockets: readonly Pick<XdpSocket, 'queue' | 'copy'>[]
}

/** One line that says what was got: interface, queues, program mode, copy mode. */
export function describeGroup(group: GroupSummary): string {
  const { attachment, sockets } = group
  const queues = [...new Set(sockets.map((socket) => socket.queue))].join(', ')
  const copies = [...new Set(sockets.map((socket) => socket.copy.got))].join(' and ')
  const why = attachment?.fallbackReason === undefined ? '' : ` (${attachment.fallbackReason})`
  return (
    `${group.interface}, ${queues.includes(',') ? 'queues' : 'queue'} ${queues}: program ${attachment?.programId} ` +
    `in ${attachment?.mode} mode by ${attachment?.kind}${why}, packets by ${copies}`
  )
}
