// xdp pong: answers ping from AF_XDP sockets, the XDP tutorial's third assignment and more.
import { Command, InvalidArgumentError } from 'commander'
import { formatIp, parseIp } from '../packet/index.js'
import { PingServer } from '../serve/index.js'
import { requireUp } from './require-up.js'
import { describeGroup, runGroup } from './run-group.js'
import { addSocketOptions, groupOptions, type SocketFlags } from './socket-options.js'

export function pongCommand(): Command {
  return addSocketOptions(new Command('pong'))
    .summary('answer ping, ARP and neighbour discovery from user space')
    .description(
      'Answers IPv4 and IPv6 ping, ARP and neighbour solicitations for the addresses of the interface ' +
        'from AF_XDP sockets. Everything else passes to the kernel as before.',
    )
    .argument('<interface>', 'the interface to answer on')
    .option('-a, --address <address>', 'answer for this address too (repeatable)', addAddress)
    .action(async (name: string, flags: SocketFlags & { address?: Uint8Array[] }) => {
      requireUp(name)
      const server = await PingServer.open({ ...groupOptions(name, flags), addresses: flags.address ?? [] })
      const addresses = server.refreshAddresses().map((address) => formatIp(address))
      console.error(
        `xdp: answering for ${addresses.join(', ') || 'no address yet'} on ${describeGroup(server.group)}`,
      )
      await runGroup(server.group, server.handle, flags, () => server.refreshAddresses())
      const { echo4, echo6, arp, neighbour, ignored } = server.counts
      console.error(
        `xdp: answered ${echo4} IPv4 and ${echo6} IPv6 pings, ${arp} ARP requests, ` +
          `${neighbour} neighbour solicitations; ignored ${ignored}`,
      )
    })
}

function addAddress(text: string, list: Uint8Array[] = []): Uint8Array[] {
  const address = parseIp(text)
  if (!address) throw new InvalidArgumentError('Use an IPv4 or IPv6 address.')
  return [...list, address]
}
