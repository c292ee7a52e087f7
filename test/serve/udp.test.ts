// UDP over AF_XDP, judged by node:dgram, socat and tcpdump at the other end of a cable.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { needsRoot } from '../support/lab.js'
import { until } from '../support/xsk.js'
import { dump, ipv6, run, script, serve } from './udp-lab.js'

describe('a UDP server', { skip: needsRoot }, () => {
  for (const mode of ['native', 'generic'] as const) {
    for (const queues of [1, 2]) {
      it(`answers IPv4 and IPv6 in ${mode} mode on ${queues} queue(s)`, async (t) => {
        const { lab, server, port } = await serve(t, { mode }, undefined, { queues })
        for (const host of [lab.a.ipv4, ipv6(lab.a)]) {
          const answers = await script<string[]>(
            lab,
            'b',
            `const answers = []
            for (let i = 0; i < 20; i++) {
              const socket = await open('${host}')
              const { message, sender } = await ask(socket, 'question ' + i, ${port}, '${host}')
              answers.push([message, sender.address, sender.port, sender.size].join(' '))
              socket.close()
            }
            say(answers)`,
          )
          assert.deepEqual(
            answers,
            Array.from({ length: 20 }, (_, i) => `question ${i} ${host} ${port} ${`question ${i}`.length}`),
          )
        }
        assert.equal(server.counts.received, 40)
        assert.equal(server.counts.replied, 40)
        assert.equal(server.counts.receivedByKernel, 0)
        assert.equal(server.group.statistics().tx.packets, 40)
        assert.equal(server.group.attachment?.mode, mode)
      })
    }
  }

  it('answers every size from 0 to the MTU, with the same bytes', async (t) => {
    const { lab, server, port } = await serve(t)
    for (const [host, most] of [
      [lab.a.ipv4, 1472],
      [ipv6(lab.a), 1452],
    ] as const) {
      const wrong = await script<unknown[]>(
        lab,
        'b',
        `const socket = await open('${host}')
        const wrong = []
        for (let size = 0; size <= ${most}; size++) {
          const payload = Buffer.from(Array.from({ length: size }, (_, i) => (i * 7 + size) & 255))
          const { message } = await ask(socket, payload, ${port}, '${host}')
          if (!message.equals(payload)) wrong.push(size)
        }
        socket.close()
        say(wrong)`,
      )
      assert.deepEqual(wrong, [])
    }
    assert.equal(server.counts.received, 1473 + 1453)
    assert.equal(server.counts.receivedByKernel, 0)
    assert.equal(server.group.statistics().tx.packets, 1473 + 1453)
  })

  it('writes headers and checksums that tcpdump finds right', async (t) => {
    let answer: Buffer | string = ''
    const { lab, port } = await serve(t, {}, (message) => void message.reply(answer))
    const seen = await dump(lab, 'udp', 'and', 'src', 'port', String(port))
    const answers = ['', 'a', 'ab', 'the longest of these, by far', Buffer.alloc(1452, 0xa5)]
    let count = 0
    for (answer of answers) {
      for (const host of [lab.a.ipv4, ipv6(lab.a)]) {
        const size = await script<number>(
          lab,
          'b',
          `const socket = await open('${host}')
          const { message } = await ask(socket, 'hello', ${port}, '${host}')
          say(message.length)
          socket.close()`,
        )
        assert.equal(size, answer.length)
        count++
        await until('tcpdump has seen it', () => (seen.text().match(/UDP, length/g) ?? []).length === count)
      }
    }
    assert.equal((seen.text().match(/\[udp sum ok\]/g) ?? []).length, count)
    assert.doesNotMatch(seen.text(), /bad|wrong|incorrect|truncated|invalid/i)
    seen.stop()
  })

  it('hands over what socat sends, and the sender', async (t) => {
    const seen: unknown[] = []
    const { lab, port } = await serve(t, {}, (message) => {
      const { address, localAddress, localPort, family, via, vlan } = message
      seen.push({ text: message.toString(), address, localAddress, localPort, family, via, vlan })
      message.reply(`${message.toString().trim()} yourself`)
    })
    const { stdout } = await lab.exec('b', 'socat', ['-t2', '-', `UDP4:${lab.a.ipv4}:${port}`], {
      input: 'hello\n',
    })
    assert.equal(stdout, 'hello yourself')
    const common = { text: 'hello\n', localPort: port, via: 'xdp', vlan: -1 }
    assert.deepEqual(seen, [{ ...common, address: lab.b.ipv4, localAddress: lab.a.ipv4, family: 4 }])
  })

  it('leaves other ports and ping to the kernel while it is under load', async (t) => {
    const { lab, server, port } = await serve(t)
    const other = lab.spawn('a', 'socat', ['-T20', 'UDP4-RECVFROM:7777,fork', 'EXEC:cat'])
    const load = script<number>(
      lab,
      'b',
      `const socket = await open('${lab.a.ipv4}')
      let answers = 0
      socket.on('message', () => answers++)
      for (let round = 0; round < 100; round++) {
        for (let i = 0; i < 20; i++) socket.send('x', ${port}, '${lab.a.ipv4}')
        await new Promise((done) => setTimeout(done, 5))
      }
      for (let i = 0; i < 6000 && answers < 2000; i++) await new Promise((done) => setTimeout(done, 10))
      say(answers)
      socket.close()`,
    )
    const text = await run(lab, 'b', 'ping', '-n', '-q', '-c', '100', '-i', '0.002', lab.a.ipv4)
    assert.match(text, / 100 received/)
    const answer = await script<string>(
      lab,
      'b',
      `const socket = await open('${lab.a.ipv4}')
      const { message } = await ask(socket, 'to the kernel', 7777, '${lab.a.ipv4}')
      say(message.toString())
      socket.close()`,
    )
    assert.equal(answer, 'to the kernel')
    assert.equal(await load, 2000)
    assert.equal(server.counts.received, 2000)
    other.kill('SIGKILL')
  })
})
