// xdp lab up, down, reset: making labs and removing them.
import { InvalidArgumentError, type Command } from 'commander'
import { NotFoundError, OptionError } from '../../kernel/index.js'
import { Lab, type LabOptions } from '../../lab/index.js'
import { listProcesses } from '../../lab/remove.js'
import { DEFAULT_LAB, labArgument, whereIs } from './common.js'

type UpFlags = Pick<LabOptions, 'queues' | 'mtu' | 'ipv4' | 'ipv6' | 'isolated'>

export function addLifeCommands(parent: Command): void {
  parent
    .command('up')
    .summary('make a lab')
    .description('Makes a lab and shows it. It stays until `xdp lab down`, or until the machine restarts.')
    .argument('[name]', 'its name, and that of the interface at end a', DEFAULT_LAB)
    .option('-q, --queues <n>', 'RX and TX queues of each end', parseNumber, 1)
    .option('--mtu <bytes>', 'the largest packet, without its Ethernet header', parseNumber, 1500)
    .option('--ipv4 <network>', 'IPv4 network (default: a free 10.11.N.0/24)')
    .option('--ipv6 <network>', 'IPv6 network (default: fc00:dead:cafe:N::/64)')
    .option('--isolated', 'give end a a namespace of its own too', false)
    .action((name: string, flags: UpFlags) => show(Lab.create({ ...flags, name }), 'up'))

  parent
    .command('down')
    .summary('remove a lab')
    .description(
      'Removes a lab with everything attached to it, whoever made it, also what a crash left of one.',
    )
    .argument('[name]', `the lab (default: "${DEFAULT_LAB}")`)
    .option('--all', 'remove all labs of this machine')
    .action((name: string | undefined, { all }: { all?: boolean }) => {
      if (all && name !== undefined) {
        throw new OptionError(
          '--all',
          `Both the lab ${name} and all labs were asked for`,
          'Leave one of the two out.',
        )
      }
      const names = all ? Lab.list().map((lab) => lab.name) : [name ?? DEFAULT_LAB]
      for (const name of names) remove(name)
      if (names.length === 0) console.log('no lab to remove')
    })

  parent
    .command('reset')
    .summary('make a lab anew')
    .description(
      'Removes a lab and makes it as it was: programs, counters and changes made by hand are gone.',
    )
    .argument(...labArgument)
    .action((name: string) => show(Lab.reset(name), 'new'))
}

function show(lab: Lab, state: string): void {
  console.log(`The lab ${lab.name} is ${state}.`)
  for (const { id, interface: name, ipv4, ipv6 } of [lab.a, lab.b]) {
    const addresses = [ipv4, ipv6].filter((address) => address !== undefined).join('  ')
    console.log(
      `  ${id}  ${name.padEnd(Math.max(lab.a.interface.length, 6))}  ${addresses}  (${whereIs(lab, id)})`,
    )
  }
  const named = lab.name === DEFAULT_LAB ? '' : ` ${lab.name}`
  if (lab.isolated)
    console.log(
      `Next: \`xdp lab exec${named} -e a -- xdp pong veth-a\`, and in another terminal \`xdp lab ping${named}\`.`,
    )
  else console.log(`Next: \`xdp pong ${lab.name}\`, and in another terminal \`xdp lab ping${named}\`.`)
  lab.close()
}

function remove(name: string): void {
  const labs = Lab.list()
  const processes = labs.some((lab) => lab.name === name) ? listProcesses(name) : []
  if (!Lab.remove(name)) {
    const there = labs.map((lab) => lab.name).join(', ')
    throw new NotFoundError(`No lab ${name}`, there === '' ? 'There is none.' : `There are: ${there}.`)
  }
  console.log(`The lab ${name} is gone.`)
  if (processes.length > 0) {
    console.error(
      `xdp: still running in what was the lab ${name}, without a network: ${processes.join(', ')}`,
    )
  }
}

function parseNumber(text: string): number {
  if (!/^\d{1,6}$/.test(text)) throw new InvalidArgumentError('Use a whole number.')
  return Number(text)
}
