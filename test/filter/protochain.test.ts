// `protochain` follows a chain of headers. libpcap's code for it jumps back, and goes round for ever on some packets, so here it is
// run step by step; ours is written out for the kernel, and has to give the same verdict for every chain that ends soon.
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { FilterError, compileFilter } from '../../src/filter/index.js'
import { createQuietLab, needsRoot } from '../support/lab.js'
import { type Backend, classic, classicInKernel, ebpf, predicate } from './backends.js'
import { runClassic } from './classic.js'
import { corpusPackets } from './corpus/packets.js'
import { listings, tcpdumpVersion } from './oracle.js'

const NUMBERS = ['6', '17', '\\tcp', '\\udp', '58', '51', '44', '60', '0', '132']
const EXPRESSIONS = [
  ...['ip', 'ip6', ''].flatMap((protocol) =>
    NUMBERS.map((number) => `${protocol} protochain ${number}`.trim()),
  ),
  'ip6 protochain 6 and port 80',
  'not ip6 protochain 17',
  'ip6 protochain \\tcp or arp',
  'vlan and ip6 protochain 17',
  'protochain 6 and protochain 17',
]
const REFUSED = (
  'protochain;ip protochain;protochain tcp;protochain foo;protochain \\foo;tcp protochain 6;ether protochain 6;arp protochain 6;' +
  'src protochain 6;protochain 10.0.0.1;protochain fd00::1;icmp protochain 6;protochain 6-7;protochain -1;rarp protochain \\tcp'
).split(';')
/** Instructions of libpcap's for a packet: less than ten headers take. */
const MOST_STEPS = 200

describe('protochain', { skip: tcpdumpVersion() === undefined && 'needs tcpdump' }, () => {
  const packets = corpusPackets()
  /** For each expression libpcap's verdict on each packet: 1, 0, or -1 where it goes on for long. */
  let verdicts: Int8Array[]

  before(async () => {
    const programs = await listings(EXPRESSIONS)
    verdicts = programs.map((program) => {
      if (typeof program === 'string') assert.fail(program)
      return Int8Array.from(packets, ({ bytes, wireLength }) =>
        Math.sign(runClassic(program, bytes, wireLength, MOST_STEPS)),
      )
    })
  })

  it('is refused where libpcap refuses it', async () => {
    for (const [i, theirs] of (await listings(REFUSED)).entries()) {
      assert.equal(typeof theirs, 'string', REFUSED[i])
      assert.throws(() => compileFilter(REFUSED[i]), FilterError, REFUSED[i])
    }
  })

  it('ends soon for nearly all packets, takes some and leaves some', () => {
    for (const [i, all] of verdicts.entries()) {
      const count = (verdict: number) => all.filter((one) => one === verdict).length
      assert.ok(count(-1) < packets.length / 50, `${EXPRESSIONS[i]}: ${count(-1)} packets take long`)
      assert.ok(count(0) > 0)
    }
    assert.ok(verdicts.filter((all) => all.includes(1)).length > EXPRESSIONS.length / 2)
  })

  function compare(backend: Backend): void {
    for (let first = 0; first < EXPRESSIONS.length; first += backend.width) {
      const some = EXPRESSIONS.slice(first, first + backend.width)
      const runner = backend.prepare(some.map((expression) => compileFilter(expression)))
      const ours = new Uint8Array(some.length)
      try {
        for (const [number, packet] of packets.entries()) {
          if (!backend.takes(packet)) continue
          runner.judge(packet, ours)
          for (const [i, expression] of some.entries()) {
            const verdict = verdicts[first + i][number]
            if (verdict < 0 || verdict === ours[i]) continue
            const hex = Buffer.from(packet.bytes).toString('hex')
            assert.fail(`${expression}: ${backend.name} differs on ${hex}`)
          }
        }
      } finally {
        runner.close?.()
      }
    }
  }

  it('is the same as a TypeScript predicate', () => compare(predicate))
  it('is the same as classic BPF', () => compare(classic))
  it('is the same as classic BPF that the kernel runs for sockets', { skip: needsRoot }, (t) => {
    const backend = classicInKernel(createQuietLab(t).a)
    try {
      compare(backend)
    } finally {
      backend.close?.()
    }
  })
  it('is the same as eBPF', { skip: needsRoot }, () => compare(ebpf))
})
