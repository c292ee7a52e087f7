// xdp drop: eats every packet, the XDP tutorial's first assignment.
import { Command } from 'commander'
import { XdpGroup } from '../xsk/index.js'
import { requireUp } from './require-up.js'
import { describeGroup, runGroup } from './run-group.js'
import { addSocketOptions, groupOptions, type SocketFlags } from './socket-options.js'
import { requireConsent } from './take-traffic.js'

export function dropCommand(): Command {
  return addSocketOptions(new Command('drop'))
    .summary('eat all packets of an interface and count them')
    .description(
      'Takes every packet that arrives on the interface into an AF_XDP socket and drops it there. ' +
        'The host receives nothing on that interface meanwhile.',
    )
    .argument('<interface>', 'the interface to take packets from')
    .option('--take-traffic', 'also on loopback, and on the interface that carries the default route')
    .action(async (name: string, flags: SocketFlags & { takeTraffic?: boolean }) => {
      requireConsent(name, flags.takeTraffic ?? false)
      requireUp(name)
      const group = await XdpGroup.open(groupOptions(name, flags))
      console.error(`xdp: dropping everything that arrives on ${describeGroup(group)}`)
      await runGroup(group, () => undefined, flags)
    })
}
