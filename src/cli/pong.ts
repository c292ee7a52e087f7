// xdp pong: answers ping from AF_XDP sockets, the XDP tutorial's third assignment and more.
import { Command, InvalidArgumentError } from 'commander'
import { formatIp, parseIp } from '../packet/index.js'
import { PingServer } from '../serve/ping-server.js'
import { untilInterrupted } from './interrupt.js'
import type { PongServer } from './pong-program.js'
import { addSteeringOptions, type SteeringFlags } from './program-options.js'
import { requireUp } from './require-up.js'
import { describeGroup, runGroup } from './run-group.js'
import { addSocketOptions, groupOptions, type SocketFlags } from './socket-options.js'
import { chooseSteering } from './steering.js'

interface PongFlags extends SocketFlags, SteeringFlags {
  address?: Uint8Array[]
}

export function pongCommand(): Command {
  return addSteeringOptions(addSocketOptions(new Command('pong')), {
    own: 'one that gives only what is answered',
    rest: 'what it gives and is not answered is dropped',
  })
    .summary('answer ping, ARP and neighbour discovery from user space')
    .description(
      'Answers IPv4 and IPv6 ping, ARP and neighbour solicitations for the addresses of the interface ' +
        'from AF_XDP sockets. Everything else passes to the kernel as before.',
    )
    .argument('<interface>', 'the interface to answer on')
    .option('-a, --address <address>', 'answer for this address too (repeatable)', addAddress)
    .option('--take-traffic', 'with --program: also on loopback, and on the interface of the default route')
    .addHelpText(
      'after',
      '\nThe programs there are, and what can be set of them, are listed by `xdp programs`.',
    )
    .action(async (name: string, flags: PongFlags) => {
      const server = await untilInterrupted(async (signal) => {
        const server = await openServer(name, flags)
        const addresses = server.refreshAddresses().map((address) => formatIp(address))
        console.error(
          `xdp: answering for ${addresses.join(', ') || 'no address yet'} on ${describeGroup(server.group)}`,
        )
        await runGroup(server.group, server.handle, flags, signal, () => server.refreshAddresses())
        return server
      })
      const { echo4, echo6, arp, neighbour, ignored } = server.counts
      console.error(
        `xdp: answered ${echo4} IPv4 and ${echo6} IPv6 pings, ${arp} ARP requests, ` +
          `${neighbour} neighbour solicitations; ignored ${ignored}`,
      )
    })
}

async function openServer(name: string, flags: PongFlags): Promise<PongServer> {
  const options = { ...groupOptions(name, flags), addresses: flags.address ?? [] }
  const program = await chooseSteering(flags, name)
  requireUp(name)
  if (!program) return PingServer.open(options)
  // A responder that stays up for months should be small.
  const { openPong } = await import('./pong-program.js')
  return openPong(program, options)
}

function addAddress(text: string, list: Uint8Array[] = []): Uint8Array[] {
  const address = parseIp(text)
  if (!address) throw new InvalidArgumentError('Use an IPv4 or IPv6 address.')
  return [...list, address]
}
