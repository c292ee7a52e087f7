// What a user does wrong, or may not do: one line that says so, the documented exit status, and nothing left behind.
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { queryXdp } from '../../src/bpf/index.js'
import { listInterfaces, setInterfaceUp } from '../../src/kernel/interfaces.js'
import { Namespace } from '../../src/kernel/index.js'
import { Lab } from '../../src/lab/index.js'
import { needsRoot, uniqueName } from '../support/lab.js'
import { Running, WHOLE_FILE_MS, XDP, xdp, xdpOk } from './xdp.js'

const UNPRIVILEGED = ['setpriv', '--bounding-set=-all', '--inh-caps=-all']
const REFUSED = 1
const WRONG = 2

interface Case {
  /** `free`, `down`, `busy`, `taken` stand for interfaces in that state; `new` for a lab nobody has. */
  args: string
  status: typeof REFUSED | typeof WRONG
  /** The line, with what to do about it. */
  says: RegExp
  prefix?: readonly string[]
}

const usage = (args: string, says: RegExp): Case => ({ args, status: WRONG, says })
const refusal = (args: string, says: RegExp): Case => ({ args, status: REFUSED, says })
const unprivileged = (args: string, says: RegExp): Case => ({
  args,
  status: REFUSED,
  says,
  prefix: UNPRIVILEGED,
})

const HELP = 'Run with --help for what there is\\.$'

const cases: Case[] = [
  usage('nonsense', new RegExp(`unknown command 'nonsense'\\. ${HELP}`)),
  usage('pnog free', /unknown command 'pnog' \(Did you mean pong\?\)/),
  usage('lab nonsense', new RegExp(`unknown command 'nonsense'\\. ${HELP}`)),
  usage('pong', new RegExp(`missing required argument 'interface'\\. ${HELP}`)),
  usage('pong free another', /too many arguments .* Expected 1 argument but got 2\./),
  usage('pong --mdoe native free', /unknown option '--mdoe' \(Did you mean --mode\?\)/),
  usage('pong --mode fast free', /'fast' is invalid\. Allowed choices are auto, native, generic\./),
  usage('pong --mode', new RegExp(`option '-m, --mode <mode>' argument missing\\. ${HELP}`)),
  usage('drop --attach glue free', /'glue' is invalid\. Allowed choices are auto, link, netlink\./),
  usage('drop --copy --zero-copy free', /'--copy' cannot be used with option '--zero-copy'/),
  usage('drop --queue first free', /'first' is invalid\. Use all, a number, or a list/),
  usage('drop --queue 3-1 free', /'3-1' is invalid\. Use all, a number, or a list/),
  usage('drop --interval 0 free', /'0' is invalid\. Use a number of seconds/),
  usage('pong --address 1.2.3 free', /'1\.2\.3' is invalid\. Use an IPv4 or IPv6 address\./),
  usage('demo --count 0', /'0' is invalid\. Use a whole number from 1 to 10000\./),
  usage('demo --queues 5000', /'5000' is invalid\. Use a whole number from 1 to 4096\./),
  usage('demo --mode fast', /'fast' is invalid\. Allowed choices are auto, native, generic\./),
  usage('pong --queue 4 free', /free has no queue 4; .*\. Use /),
  usage('drop --queue 0-4 free', /free has no queue \d; .*\. Use /),
  usage('lab up new --queues many', /'many' is invalid\. Use a whole number\./),
  usage('lab up new --queues 0', /cannot have 0 queues\. Use 1 to 4096\./),
  usage('lab up new --mtu 60', /cannot have an MTU of 60\. Use 68 to 65535/),
  usage('lab up new --ipv4 fc00::/64', /"fc00::\/64" is no IPv4 network .*\. Write it as /),
  usage('lab up new --ipv6 fc00::/127', /"fc00::\/127" is no IPv6 network .*\. Write it as /),
  usage('lab up new --mtu 1000 --ipv6 fc00::/64', /cannot have IPv6\. IPv6 needs an MTU of 1280/),
  usage('lab up waytoolongforaname', /"waytoolongforaname" is no name for a lab\. Use 1 to 15 /),
  usage('lab up ../etc', /no name for a lab\. Use /),
  usage('lab exec free', /no command to run\. Write it behind two dashes/),
  usage('lab exec free ls -l', /unknown option '-l'/),
  usage('lab ping free another -- -c 1', /"another" is one word too many\. What belongs /),
  usage('lab load', /missing required argument 'name'/),
  usage('lab load free nonsense', /no program "nonsense"\. Name one of .*redirect/),
  usage('lab load free --end c', /'c' is invalid\. Allowed choices are a, b\./),
  usage('lab down free --all', /Both the lab free and all labs .*\. Leave one/),
  usage('generate free --to host', /'host' is invalid\. Use an IPv4 or IPv6 address\./),
  usage('generate free --to 10.0.0.1 --to-mac zz', /'zz' is invalid\. Use a hardware address as /),
  usage(
    'generate free --to 10.0.0.1 --from-mac 01:00:5e:00:00:01',
    /address of a group\. Use that of one host/,
  ),
  usage('generate free --to 10.0.0.1 --vlan 5000', /'5000' is invalid\. Use a whole number from 0 to 4095\./),
  usage(
    'generate free --to 10.0.0.1 --from fc00::1 -c 1',
    /fc00::1 and 10\.0\.0\.1 are of two versions of IP\./,
  ),
  usage(
    'generate free --to 10.0.0.1 --to-mac 02:00:00:00:00:01 -s 2000 -c 1',
    /2000 bytes is too long for free, whose MTU is 1500\. Use at most 1518/,
  ),
  usage('forward free --to 01:00:5e:00:00:01', /address of a group\. Use that of one host/),
  usage('echo free --port 65536', /'65536' is invalid\. Use a port from 0 to 65535\./),
  usage('echo free --port x', /'x' is invalid\. Use a port from 0 to 65535\./),
  usage('echo free --port 7 --port 7', /A port was named twice\. Name it once\./),
  usage('echo free --vlan 4095', /'4095' is invalid\. Use an id from 0 to 4094\./),
  usage('echo free --address example.org', /'example\.org' is invalid\. Use an IPv4 or IPv6 address\./),
  usage('echo free --ban 5', /Nobody is banned without a limit\. Give --rate-limit too\./),
  usage('echo free --rate-limit 0', /'0' is invalid\. Use a number above 0\./),
  usage('echo free --rate-limit 99999999', /limit's perSecond cannot be 99999999\. Use 1 to 10000000\./),
  usage('echo free --copy --require-zero-copy', /'--require-zero-copy' cannot be used with option '--copy'/),
  refusal('echo nosuch0', /No interface nosuch0; there are: /),
  refusal('echo free -p 0 --address 192.0.2.1', /\(EADDRNOTAVAIL\)\. That is no address of this host/),

  refusal('generate free --pcap /nonexistent -c 1', /There is no file \/nonexistent/),
  refusal('generate free --pcap /proc -c 1', /\/proc cannot be read: EISDIR/),
  refusal('capture -r /nonexistent', /There is no file \/nonexistent/),
  refusal('pong nosuch0', /No interface nosuch0; there are: .*\bfree\b.*\. List them with/),
  refusal('drop nosuch0', /No interface nosuch0; there are: .*\. List them with/),
  refusal('status nosuch0', /No interface nosuch0; there are: .*\. List them with/),
  refusal('status --namespace nosuch0', /No network namespace nosuch0\. See `ip netns list`/),
  refusal('pong down', /down.*\. .*`ip link set (?:dev )?down up`/),
  refusal('drop down', /down.*\. .*`ip link set (?:dev )?down up`/),
  refusal('drop lo', /lo is what the programs .* would be taken\. Add --take-traffic/),
  refusal('lab up lo', /An interface named lo exists already\. Give the lab another name\./),
  refusal('pong --zero-copy free', /zero.copy.* failed: .*\(ENOTSUP\)\. .*no zero copy; use copy/),
  refusal('pong busy', /bind \(busy queue 0\) failed: .*\(EBUSY\)\. Another AF_XDP socket holds queue 0/),
  refusal('drop busy --queue 0', /\(EBUSY\)\. Another AF_XDP socket holds queue 0/),
  refusal(
    'pong taken',
    /taken has an XDP program already: program \d+ "xdp_pass" \(native, by netlink\), loaded by uid 0\. Take it off/,
  ),
  refusal('drop taken --attach netlink', /taken has an XDP program already: .*\. Take it off/),
  refusal('drop taken --mode generic', /taken has an XDP program already: .*\. Take it off/),
  refusal('lab load taken', /has an XDP program already: .*\. Take it off with `xdp lab unload taken -e a`/),
  refusal(
    'lab load busy',
    /has an XDP program already: .* by link \d+\), loaded by uid 0, held by .*\. Stop the process that holds link/,
  ),
  refusal(
    'lab unload busy',
    /has an XDP program that another process holds: .* by link \d+\), loaded by uid 0, held by .*\. Stop the process that holds link/,
  ),
  refusal('lab load free prog.o', /There is no file prog\.o/),
  refusal('lab load free ./prog', /There is no file \.\/prog/),
  refusal('lab up free', /The lab free exists already\. Remove it with `xdp lab down free`\./),
  refusal('lab status new', /No lab new\. There are: .*\bfree\b/),
  refusal('lab ping new', /No lab new\. There are: .*\bfree\b/),
  refusal('lab stats new', /No lab new\. There are: .*\bfree\b/),
  refusal('lab reset new', /No lab new\. There are: .*\bfree\b/),
  refusal('lab down new', /No lab new\. There are: .*\bfree\b/),

  unprivileged('pong free', /\(EPERM\)\. .*(?:root|CAP_)/),
  unprivileged('drop free', /\(EPERM\)\. .*(?:root|CAP_)/),
  unprivileged('demo', /\(EPERM\)\. Run as root/),
  unprivileged('lab up new', /\(EPERM\)\. Run as root: a lab needs CAP_SYS_ADMIN/),
  unprivileged('lab load free', /EPERM.*\. /),
  unprivileged('lab exec free -- true', /EPERM.*\. /),
  unprivileged('lab down free', /\(EPERM\)\. Run as root/),
  unprivileged('status --namespace xdp-free-b', /\(EPERM\)\. Run as root/),
]

describe('xdp, used wrongly', { skip: needsRoot }, () => {
  const names = new Map(['free', 'down', 'busy', 'taken', 'new'].map((word) => [word, uniqueName('w')]))
  const labs: Lab[] = []
  let holder: Running | undefined
  const real = (word: string) =>
    word.replaceAll(/\b(?:free|down|busy|taken|new)\b/g, (name) => names.get(name)!)
  // `lab down` is a command, not an interface.
  const realArgs = (args: string) =>
    args.split(' ').map((word, i, words) => (word === 'down' && words[i - 1] === 'lab' ? word : real(word)))

  before(async () => {
    for (const word of ['free', 'down', 'busy', 'taken']) {
      labs.push(Lab.create({ name: names.get(word)!, isolated: false }))
    }
    setInterfaceUp(names.get('down')!, false)
    await xdpOk('lab', 'load', names.get('taken')!, 'pass')
    holder = new Running(XDP[0], [XDP[1], 'drop', names.get('busy')!], { timeoutMs: WHOLE_FILE_MS })
    await holder.waitFor('stderr', /^xdp: dropping everything/)
  })

  after(async () => {
    await holder?.stop()
    for (const lab of labs) lab.down()
    Lab.remove(names.get('new')!)
  })

  /** All that a command could leave behind on our interfaces, and in our names. */
  const traces = () => ({
    programs: labs.flatMap((lab) => [...queryXdp(lab.name), ...queryXdp(lab.b.ifindex, lab.b)]),
    names: [...Namespace.list(), ...listInterfaces().map(({ name }) => name)].filter((name) =>
      [...names.values()].some((ours) => name.includes(ours)),
    ),
  })

  for (const { args, status, says, prefix } of cases) {
    it(`${prefix ? 'without privileges: ' : ''}xdp ${args}`, async () => {
      const had = traces()
      const result = await xdp(realArgs(args), prefix ? { prefix } : {})
      // In the words of the table again.
      let line = result.stderr
      for (const [word, name] of names) line = line.replaceAll(name, word)
      assert.equal(result.status, status, line)
      assert.match(line, /^xdp: [^\n]+\n$/)
      assert.match(line.trimEnd(), says)
      assert.equal(result.stdout, '')
      assert.deepEqual(traces(), had)
    })
  }

  it('shows all that is known with --debug', async () => {
    const { status, stdout, stderr } = await xdp(['pong', names.get('busy')!, '--debug'])
    assert.deepEqual([status, stdout], [1, ''])
    for (const part of ["code: 'EBUSY'", "syscall: 'bind'", 'hint: ', '    at '])
      assert.ok(stderr.includes(part), stderr)
  })
})
