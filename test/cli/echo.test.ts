// xdp echo as a service: how it starts, what it demands, whom it tells, how it ends.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readFile, rm } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { queryXdp } from '../../src/bpf/index.js'
import { needsClang, objectFile } from '../bpf/elf/compile.js'
import { createTestLab, needsRoot, uniqueName } from '../support/lab.js'
import { XDP, Running, startXdp, xdp } from './xdp.js'

const READY = /^xdp: echoing .*\n/m

describe('xdp echo', { skip: needsRoot }, () => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    it(`echoes, says what it got, and ends on ${signal} with nothing left`, async (t) => {
      const lab = createTestLab(t, { isolated: false, queues: 2 })
      const echo = await startXdp(t, ['echo', lab.name, '--port', '0'], READY)
      const [, port] = /echoing UDP port (\d+) on/.exec((await echo.waitFor('stderr', READY))[0])!
      const [, mode, copy] = /: program \d+ in (\w+) mode by link, packets by (.*)\n/.exec(
        (await echo.waitFor('stderr', READY))[0],
      ) as RegExpExecArray
      assert.deepEqual(
        queryXdp(lab.name).map((program) => [program.mode, program.kind]),
        [[mode, 'link']],
      )
      assert.equal(copy, 'copy')
      for (const queue of [0, 1]) {
        await echo.waitFor(
          'stderr',
          new RegExp(
            `^INFO Binding socket to interface index ${lab.a.ifindex} queue ${queue}\\.\\.\\.\n` +
              `INFO Bound in copy mode\nINFO AF_XDP socket ready on ${lab.name}:${queue}\n`,
            'm',
          ),
        )
      }
      for (const [kind, host] of [
        ['UDP4', lab.a.ipv4],
        ['UDP6', `[${lab.a.ipv6}]`],
      ]) {
        const { stdout } = await lab.exec('b', 'socat', ['-t2', '-', `${kind}:${host}:${port}`], {
          input: 'hello',
        })
        assert.equal(stdout, 'hello')
      }
      const { status, stderr, stdout } = await echo.stop(signal)
      assert.equal(status, 0)
      assert.match(stdout, /AF_XDP RX: +2 pkts/)
      assert.match(
        stderr,
        /^xdp: answered 2 of 2 datagrams; 0 more came by the kernel, 0 were damaged, 0 for nobody here$/m,
      )
      assert.deepEqual(queryXdp(lab.name), [])
    })
  }

  for (const [given, threads] of [
    ['auto', 2],
    ['2', 4],
  ] as const) {
    it(`echoes by ${threads} threads with --workers ${given} on two queues`, async (t) => {
      const lab = createTestLab(t, { isolated: false, queues: 2 })
      const echo = await startXdp(t, ['echo', lab.name, '--port', '0', '--workers', given], READY)
      const [ready] = await echo.waitFor('stderr', READY)
      assert.match(
        ready,
        new RegExp(
          `^xdp: echoing UDP port \\d+ on ${lab.name}, queues 0, 1: .*, by ${threads} threads$`,
          'm',
        ),
      )
      const [, port] = /UDP port (\d+) on/.exec(ready)!
      for (let i = 0; i < 10; i++) {
        const { stdout } = await lab.exec('b', 'socat', ['-t2', '-', `UDP4:${lab.a.ipv4}:${port}`], {
          input: `hello ${i}`,
        })
        assert.equal(stdout, `hello ${i}`)
      }
      const { status, stderr, stdout } = await echo.stop('SIGTERM')
      assert.equal(status, 0)
      assert.match(stdout, /AF_XDP RX: +10 pkts/)
      assert.match(stderr, /^xdp: answered 10 of 10 datagrams; 0 more came by the kernel, /m)
      assert.deepEqual(queryXdp(lab.name), [])
    })
  }

  it('refuses numbers of workers that cannot be', async () => {
    for (const given of ['0', '-1', 'many', '1.5']) {
      const { status, stderr } = await xdp(['echo', 'lo', '--workers', given])
      assert.notEqual(status, 0)
      assert.match(stderr, /Use auto, or a number from 1\./)
    }
  })

  it('takes the interface of the default route, and says so', async (t) => {
    const lab = createTestLab(t)
    const inside = async (args: string[]) => lab.exec('a', XDP[0], [XDP[1], 'echo', ...args])
    const none = await inside([])
    assert.equal(none.status, 1)
    assert.match(none.stderr, /^xdp: There is no default route .* Name the interface\.\n$/)
    await lab.exec('a', 'ip', ['route', 'add', 'default', 'via', lab.b.ipv4])
    const child = lab.spawn('a', XDP[0], [XDP[1], 'echo'], { stdio: ['ignore', 'ignore', 'pipe'] })
    let said = ''
    const ended = new Promise((resolve) => child.once('close', resolve))
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      const wasReady = READY.test(said)
      said += text
      if (!wasReady && READY.test(said)) child.kill('SIGTERM')
    })
    assert.equal(await ended, 0, said)
    assert.ok(said.startsWith(`xdp: taking ${lab.a.interface}, the interface of the default route\n`), said)
    assert.match(said, /^xdp: echoing UDP port 7 on /m)
  })

  it('fails with the reason where native mode or zero copy is required and not to be had', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const generic = await xdp(['echo', lab.name, '-p', '0', '--require-native', '--mode', 'generic'])
    assert.equal(generic.status, 1)
    assert.match(
      generic.stderr,
      /^xdp: \S+ runs the program in generic mode, and native mode is required.*\n$/,
    )
    const copy = await xdp(['echo', lab.name, '-p', '0', '--require-zero-copy'])
    assert.equal(copy.status, 1)
    assert.match(copy.stderr, /^xdp: \S+ copies the packets of queue 0, and zero copy is required: .*\n$/m)
    assert.deepEqual(queryXdp(lab.name), [])
    const native = await startXdp(t, ['echo', lab.name, '-p', '0', '--require-native'], READY)
    assert.equal((await native.stop()).status, 0)
  })

  it('tells the service manager when it is ready and when it stops', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const name = uniqueName('notify-')
    // A datagram socket of an abstract name, as systemd has it, and one with a path.
    for (const [listen, path] of [
      [`ABSTRACT-RECV:${name}`, `@${name}`],
      [`UNIX-RECV:/tmp/${name}`, `/tmp/${name}`],
    ]) {
      // Where it was left by its end, a path is in the way.
      t.after(() => rm(`/tmp/${name}`, { force: true }))
      const manager = spawn('socat', ['-u', `${listen}`, '-'], { stdio: ['ignore', 'pipe', 'inherit'] })
      t.after(() => manager.kill('SIGKILL'))
      let told = ''
      manager.stdout.setEncoding('utf8').on('data', (text: string) => (told += text))
      const isThere = new RegExp(`${path}$`, 'm')
      while (!isThere.test(await readFile('/proc/net/unix', 'utf8'))) {
        assert.equal(manager.exitCode, null)
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
      const echo = new Running(XDP[0], [XDP[1], 'echo', lab.name, '-p', '0'], {
        env: { ...process.env, NOTIFY_SOCKET: path },
      })
      await echo.waitFor('stderr', READY)
      while (!told.includes('READY=1')) await new Promise((resolve) => setTimeout(resolve, 5))
      assert.match(told, /^READY=1\nSTATUS=echoing UDP port \d+ on /)
      const { status, stderr } = await echo.stop('SIGTERM')
      assert.equal(status, 0, stderr)
      while (!told.includes('STOPPING=1')) await new Promise((resolve) => setTimeout(resolve, 5))
      manager.kill('SIGKILL')
    }
  })

  it('fails when the service manager named a socket that is not there', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const echo = new Running(XDP[0], [XDP[1], 'echo', lab.name, '-p', '0'], {
      env: { ...process.env, NOTIFY_SOCKET: '/tmp/nobody-listens-here' },
    })
    const { status, stderr } = await echo.end
    assert.equal(status, 1)
    assert.match(stderr, /sendto \(NOTIFY_SOCKET .*ENOENT/)
    assert.deepEqual(queryXdp(lab.name), [])
  })

  it('gives what the program of the user passes to the kernel, and answers the rest itself', async (t) => {
    const object = needsClang ? [] : [[objectFile('af_xdp_kern'), '--section', 'xdp']]
    for (const program of [['every-other'], ...object]) {
      const lab = createTestLab(t, { isolated: false })
      const echo = await startXdp(t, ['echo', lab.name, '--port', '0', '--program', ...program], READY)
      const [, port] = /echoing UDP port (\d+) on/.exec((await echo.waitFor('stderr', READY))[0])!
      for (let i = 0; i < 4; i++) {
        const target = `UDP4:${lab.a.ipv4}:${port}`
        const { stdout } = await lab.exec('b', 'socat', ['-t2', '-', target], { input: `hello ${i}` })
        assert.equal(stdout, `hello ${i}`)
      }
      const { status, stderr } = await echo.stop()
      assert.equal(status, 0, stderr)
      const counts = /^xdp: answered (\d) of \d datagrams; (\d) more came by the kernel/m.exec(stderr)
      const [bySockets, byKernel] = (counts ?? []).slice(1).map(Number)
      // Other packets come in between, which count too: so not always two and two.
      assert.ok(bySockets >= 1 && byKernel >= 1, stderr)
      assert.deepEqual(queryXdp(lab.name), [])
    }
  })

  it('answers all that a program of the user gives to it, and drops what is not for the port', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const args = ['echo', lab.name, '-p', '0', '--program', 'redirect', '--filter', 'udp']
    const echo = await startXdp(t, args, READY)
    const [, port] = /echoing UDP port (\d+) on/.exec((await echo.waitFor('stderr', READY))[0])!
    await lab.exec('b', 'socat', ['-u', '-', `UDP4:${lab.a.ipv4}:${port === '9' ? 10 : 9}`], { input: 'no' })
    const target = `UDP4:${lab.a.ipv4}:${port}`
    assert.equal((await lab.exec('b', 'socat', ['-t2', '-', target], { input: 'hello' })).stdout, 'hello')
    const { stderr } = await echo.stop()
    assert.match(stderr, /answered 1 of 1 datagrams; 0 more came by the kernel, 0 were damaged, 1 for nobody/)
  })

  // poll and ppoll, as /proc names them.
  const polls = { x64: ['7', '271'], arm64: ['73'] }[process.arch as string]
  it(
    'waits as it is told to',
    { skip: polls ? false : `system calls of ${process.arch} unknown` },
    async (t) => {
      const lab = createTestLab(t, { isolated: false })
      for (const wait of ['event-loop', 'poll']) {
        const echo = await startXdp(t, ['echo', lab.name, '--port', '7007', '--wait', wait], READY)
        // With `poll` it sleeps in that call for a while behind each datagram, otherwise never.
        const syscall = `/proc/${echo.child.pid}/syscall`
        let asked = 0
        let isPolling = false
        do {
          let isAnswered = false
          const answer = lab
            .exec('b', 'socat', ['-t2', '-', `UDP4:${lab.a.ipv4}:7007`], { input: wait })
            .finally(() => (isAnswered = true))
          while (!isAnswered) {
            const [number] = (await readFile(syscall, 'utf8')).split(' ')
            if (polls?.includes(number)) isPolling = true
          }
          assert.equal((await answer).stdout, wait)
          asked++
        } while (asked < (wait === 'poll' ? 100 : 5) && !isPolling)
        assert.equal(isPolling, wait === 'poll')
        const { status, stderr } = await echo.stop('SIGTERM')
        assert.equal(status, 0, stderr)
        assert.match(stderr, new RegExp(`^xdp: answered ${asked} of ${asked} datagrams;`, 'm'))
      }
      const { status, stderr } = await xdp(['echo', lab.name, '--wait', 'forever'])
      assert.equal(status, 2, stderr)
    },
  )

  it('refuses in one sentence a program that cannot be its own, and what only its own does', async () => {
    for (const [args, status, says] of [
      [['--program', 'pass'], 2, /"xdp_pass" gives no packets to sockets: it uses no map "xsks_map"/],
      [['--program', 'nosuch'], 2, /There is no program "nosuch"/],
      [['--section', 'xdp'], 2, /--section is about a program, and none was named/],
      [['--program', 'redirect'], 1, /lo is what .* Add --take-traffic/],
      [['--program', 'redirect', '--vlan', '5'], 2, /'--vlan <id>' cannot be used with option '--program/],
      [['--program', 'redirect', '--address', '::1'], 2, /cannot be used with option '--program/],
      [['--program', 'redirect', '--rate-limit', '5'], 2, /cannot be used with option '--program/],
    ] as const) {
      const result = await xdp(['echo', 'lo', ...args])
      assert.equal(result.status, status, result.stderr)
      assert.match(result.stderr, /^xdp: [^\n]+\n$/)
      assert.match(result.stderr, says)
    }
  })
})
