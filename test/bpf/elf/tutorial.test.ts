// The XDP tutorial's AF_XDP lesson with a program made by clang: every other packet goes to the socket, real ping sees the others.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { BpfObject } from '../../../src/bpf/elf/index.js'
import { attachXdp } from '../../../src/bpf/index.js'
import { XdpSocket } from '../../../src/xsk/index.js'
import { createTestLab, needsRoot } from '../../support/lab.js'
import { until } from '../../support/xsk.js'
import { compiled, needsClang } from './compile.js'

const bpftool = (...args: string[]): unknown =>
  JSON.parse(execFileSync('bpftool', ['-j', ...args], { encoding: 'utf8' }))

describe('the tutorial', { skip: needsRoot || needsClang }, () => {
  // The tutorial counts on each processor by itself, so ping stays on one; a plain array counts for all.
  for (const [counter, prefix] of [
    ['BPF_MAP_TYPE_PERCPU_ARRAY', ['taskset', '-c', '0']],
    ['BPF_MAP_TYPE_ARRAY', []],
  ] as const) {
    for (const version of [4, 6] as const) {
      test(`ping -${version} sees exactly icmp_seq 2, 4, 6 and 8 (${counter})`, async (t) => {
        const lab = createTestLab(t)
        const { a } = lab
        const address = version === 4 ? a.ipv4 : a.ipv6
        if (address === undefined) return t.skip('the kernel runs without IPv6')
        const object = BpfObject.parse(compiled('af_xdp_kern', { flags: [`-DCOUNTER=${counter}`] }), {
          name: 'af_xdp_kern',
        })
        const loaded = object.load()
        t.after(() => loaded.close())
        const socket = await XdpSocket.open({
          interface: a.interface,
          namespace: a.namespace,
          attach: 'none',
          xskMap: loaded.map('xsks_map'),
        })
        t.after(() => socket.close())
        const attachment = attachXdp(loaded.program('xdp_sock_prog'), {
          interface: a.interface,
          namespace: a.namespace,
        })
        t.after(() => attachment.close())

        // What is still under way of the lab's making is over, and counting begins anew.
        const stats = loaded.map('xdp_stats_map')
        const zero = stats.lookup(0)
        stats.update(0, Array.isArray(zero) ? zero.map(() => 0) : 0)
        socket.receive(() => {})

        const command = [...prefix, 'ping', `-${version}`, '-c', '8', '-i', '0.2', '-W', '1', address]
        const { stdout } = await lab.exec('b', command[0], command.slice(1))
        const answered = [...stdout.matchAll(/icmp_seq=(\d+) ttl/g)].map((match) => Number(match[1]))
        assert.deepEqual(answered, [2, 4, 6, 8], stdout)
        assert.match(stdout, /8 packets transmitted, 4 received/)

        // The socket has the ones that went unanswered.
        const taken: number[] = []
        const sequence = version === 4 ? 14 + 20 + 6 : 14 + 40 + 6
        await until('the socket has four packets', () => {
          socket.receive(({ bytes, offset }) => {
            taken.push(bytes[offset + sequence] * 256 + bytes[offset + sequence + 1])
          })
          return taken.length >= 4
        })
        assert.deepEqual(taken, [1, 3, 5, 7])

        const program = bpftool('prog', 'show', 'id', String(loaded.program('xdp_sock_prog').id)) as {
          map_ids: number[]
          btf_id: number
          name: string
        }
        assert.equal(program.name, 'xdp_sock_prog')
        assert.ok(program.btf_id > 0)
        const maps = [loaded.map('xsks_map').id, stats.id]
        assert.deepEqual(program.map_ids.sort(), maps.sort())
        const dumped = bpftool('map', 'dump', 'id', String(stats.id)) as { formatted: { key: number } }[]
        assert.equal(dumped[0].formatted.key, 0)
        const counted = stats.lookup(0)
        assert.equal(Array.isArray(counted) ? (counted as number[]).reduce((sum, n) => sum + n) : counted, 8)
      })
    }
  }

  test('a program in a section for fragments runs where frames are larger than a page', (t) => {
    const { a } = createTestLab(t, { mtu: 9000 })
    using loaded = BpfObject.parse(compiled('kinds'), { name: 'kinds' }).load({ only: ['plain', 'frags'] })
    const where = { interface: a.interface, namespace: a.namespace, mode: 'native' } as const
    attachXdp(loaded.program('frags'), where).close()
    assert.throws(() => attachXdp(loaded.program('plain'), where), /ERANGE|EINVAL|EOPNOTSUPP|ENOTSUP|MTU/i)
  })

  test(
    "libxdp's own default program serves a socket",
    {
      skip: (() => {
        try {
          readFileSync('/usr/lib/x86_64-linux-gnu/bpf/xsk_def_xdp_prog.o')
          return needsRoot
        } catch {
          return 'libxdp is not installed'
        }
      })(),
    },
    async (t) => {
      const lab = createTestLab(t)
      const { a } = lab
      const file = '/usr/lib/x86_64-linux-gnu/bpf/xsk_def_xdp_prog.o'
      const loaded = BpfObject.parse(readFileSync(file), { name: 'xsk_def_xdp_prog' }).load()
      t.after(() => loaded.close())
      const socket = await XdpSocket.open({
        interface: a.interface,
        namespace: a.namespace,
        attach: 'none',
        xskMap: loaded.map('xsks_map'),
      })
      t.after(() => socket.close())
      const attachment = attachXdp(loaded.program('xsk_def_prog'), {
        interface: a.interface,
        namespace: a.namespace,
      })
      t.after(() => attachment.close())
      const before = loaded.readGlobal('refcnt')
      const pinging = lab.exec('b', 'ping', ['-c', '3', '-i', '0.2', '-W', '1', a.ipv4])
      let taken = 0
      await until('the socket has the requests', () => {
        taken += socket.receive(() => {})
        return taken >= 3
      })
      assert.match((await pinging).stdout, /3 packets transmitted, 0 received/)
      // Switched off by its global, as libxdp does when the last socket goes, it lets everything pass.
      loaded.writeGlobal('refcnt', 0)
      assert.match(
        (await lab.exec('b', 'ping', ['-c', '2', '-i', '0.2', '-W', '1', a.ipv4])).stdout,
        / 2 received/,
      )
      assert.equal(before, 1)
    },
  )
})
