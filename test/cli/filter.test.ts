// xdp filter, as a user runs it: what it prints of an expression, and how it ends.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { corpusPackets } from '../filter/corpus/packets.js'
import { captureFile, judge, tcpdumpVersion } from '../filter/oracle.js'
import { xdp, xdpOk } from './xdp.js'

const needsTcpdump = tcpdumpVersion() === undefined && 'needs tcpdump'
const STAGES = ['tokens', 'tree', 'checked', 'ir', 'optimised', 'classic', 'ebpf']

describe('xdp filter', () => {
  const packets = corpusPackets().slice(0, 2000)
  let folder: string
  let file: string

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'node-xdp-filter-'))
    file = join(folder, 'in.pcap')
    writeFileSync(file, captureFile(packets))
  })
  after(() => rmSync(folder, { recursive: true }))

  it('says what a right expression comes to', async () => {
    assert.match(
      await xdpOk('filter', 'tcp port 80 or 443'),
      /^a right filter: 23 instructions of classic BPF, [1-9]\d* of eBPF\n$/,
    )
  })

  it('says which form of an expression is too large for the kernel, and prints the others', async () => {
    const expression = Array.from({ length: 240 }, (_, host) => `host fd00::${host.toString(16)}`).join(
      ' or ',
    )
    const lines = (await xdpOk('filter', '--classic', expression)).trimEnd().split('\n').length
    assert.match(
      await xdpOk('filter', expression),
      new RegExp(
        '^a right filter: [1-9]\\d* instructions of eBPF\\n' +
          `not as classic BPF: The filter comes to ${lines} instructions of classic BPF; the kernel takes 4096 [^\\n]*\\n$`,
      ),
    )
    assert.match(await xdpOk('filter', expression, '--test', file), /: \d+ of 2000 packets match\n$/)
  })

  it('takes the words of an expression as one argument or several', async () => {
    assert.equal(
      await xdpOk('filter', '--classic', '--', 'ip', 'and', '-1', '<', 'ip[0]'),
      await xdpOk('filter', '--classic', 'ip and -1 < ip[0]'),
    )
  })

  it('prints every stage, in order, each of which it prints alone too', async () => {
    const expression = 'tcp port http or 443'
    const all = await xdpOk('filter', '--explain', expression)
    assert.deepEqual(
      [...all.matchAll(/^(\w+):$/gm)].map(([, name]) => name),
      STAGES,
    )
    for (const stage of STAGES) {
      const alone = await xdpOk('filter', '--stage', stage, expression)
      assert.ok(all.includes(`${stage}:\n${alone.trimEnd().replaceAll(/^(?=.)/gm, '  ')}`), stage)
    }
  })

  it('prints classic BPF as tcpdump -d does', { skip: needsTcpdump }, async () => {
    for (const expression of [
      'tcp port 80 or 443',
      'vlan 2 and ip6 host fd00::1',
      'tcp[tcpflags] & tcp-syn != 0',
      // Its jumps reach further than a byte says.
      Array.from({ length: 60 }, (_, i) => `net 10.${i}.0.0/16`).join(' or '),
      Array.from({ length: 40 }, (_, i) => `not tcp port ${i}`).join(' and '),
      '',
    ]) {
      const printed = execFileSync('tcpdump', ['-y', 'EN10MB', '-d', expression], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      })
      // tcpdump pads a name without an operand.
      const theirs = printed.replaceAll(/ +$/gm, '')
      assert.equal((await xdpOk('filter', expression, '--classic')).replaceAll(/ +$/gm, ''), theirs)
    }
  })

  it('prints eBPF that ends in a verdict', async () => {
    const listing = await xdpOk('filter', 'udp port 53', '--ebpf')
    assert.match(listing, /^ *0: .*\n/)
    assert.match(listing, /: exit\n?$/m)
    assert.match(listing, /r0 = [12]$/m)
  })

  it('counts what matches in capture files as tcpdump does', { skip: needsTcpdump }, async () => {
    const expression = 'udp or vlan'
    const [judgement] = await judge(packets, [expression])
    assert.ok(judgement.accepted && judgement.count > 0)
    const line = `${file}: ${judgement.count} of ${packets.length} packets match\n`
    assert.equal(await xdpOk('filter', expression, '--test', file), line)
    assert.equal(await xdpOk('filter', expression, '--test', file, file), line + line)
  })

  for (const [expression, column, length, says] of [
    ['tcp prot 80', 4, 4, /did you mean "port"\?/],
    ['port 80 and', 11, 1, /./],
    ['host 10.0.0.256', 5, 10, /10\.0\.0\.256/],
    ['tcp port 80 or udp port 70000', 24, 5, /70000|65535/],
    ['ip[0:3] = 1', 0, 7, /1, 2 or 4/],
    ['foo', 0, 3, /foo/],
  ] as const) {
    it(`marks the fault in ${JSON.stringify(expression)} and ends with status 2`, async () => {
      const { status, stdout, stderr } = await xdp(['filter', expression])
      assert.deepEqual([status, stdout], [2, ''])
      const [sentence, shown, carets] = stderr.split('\n')
      assert.match(sentence, /^xdp: /)
      assert.match(sentence, says)
      assert.equal(shown, `  ${expression}`)
      assert.equal(carets, `  ${' '.repeat(column)}${'^'.repeat(length)}`)
    })
  }

  it('ends with status 2 for a stage that there is not', async () => {
    const { status, stderr } = await xdp(['filter', 'ip', '--stage', 'nonsense'])
    assert.equal(status, 2)
    assert.match(stderr, /^xdp: .*Allowed choices are tokens, tree/)
  })

  it('ends with status 1 for a file that is no capture file', async () => {
    const text = join(folder, 'text')
    writeFileSync(text, 'no packets at all')
    for (const [path, says] of [
      [join(folder, 'missing'), /^xdp: There is no file .*missing\n$/],
      [folder, /^xdp: .*(?:EISDIR|directory)/],
      [text, /^xdp: .*text/],
    ] as const) {
      const { status, stdout, stderr } = await xdp(['filter', 'ip', '--test', path])
      assert.deepEqual([status, stdout], [1, ''], path)
      assert.match(stderr, says)
    }
  })

  it('refuses files of other link types', async () => {
    const raw = join(folder, 'raw.pcap')
    const bytes = captureFile(packets.slice(0, 1))
    bytes[20] = 101 // LINKTYPE_RAW
    writeFileSync(raw, bytes)
    const { status, stderr } = await xdp(['filter', 'ip', '--test', raw])
    assert.equal(status, 1)
    assert.match(stderr, /link type 101.*Ethernet/)
  })
})
