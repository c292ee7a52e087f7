// What tests of UDP servers need: a server at end `a` that closes with the test, clients at end `b`, tcpdump's judgement.
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import type { EndId, Lab, LabOptions } from '../../src/lab/index.js'
import {
  createUdpServer,
  type UdpHandler,
  type UdpServer,
  type UdpServerOptions,
} from '../../src/serve/index.js'
import { createTestLab } from '../support/lab.js'
import { until } from '../support/xsk.js'

/** Answers every datagram with itself. */
export const echo: UdpHandler = (message) => void message.reply()

/** Opens a server at end `a`, closed with the test; then all its frames are home. */
export async function serverAt(
  t: TestContext,
  lab: Lab,
  options: Partial<UdpServerOptions> = {},
  handler: UdpHandler = echo,
): Promise<UdpServer> {
  const { interface: name, namespace } = lab.a
  const server = await createUdpServer(
    { interface: name, namespace, port: 0, trackFrames: true, ...options },
    handler,
  )
  t.after(async () => {
    await server.close()
  })
  return server
}

/** A lab with a server at end `a`. */
export async function serve(
  t: TestContext,
  options: Partial<UdpServerOptions> = {},
  handler: UdpHandler = echo,
  labOptions: LabOptions = {},
): Promise<{ lab: Lab; server: UdpServer; port: number }> {
  const lab = createTestLab(t, labOptions)
  const server = await serverAt(t, lab, options, handler)
  return { lab, server, port: server.ports[0] }
}

/** Runs a script (an ES module with `dgram`, `ask` and `say`) at an end, and gives what it said. */
export async function script<T>(lab: Lab, end: EndId, text: string): Promise<T> {
  const { stdout, stderr, status } = await lab.exec(end, process.execPath, [
    '--input-type=module',
    '-e',
    CLIENT + text,
  ])
  assert.equal(status, 0, stderr)
  return JSON.parse(stdout) as T
}

const CLIENT = `
import dgram from 'node:dgram'
import { once } from 'node:events'
const say = (what) => process.stdout.write(JSON.stringify(what))
const open = async (host) => {
  const socket = dgram.createSocket(host.includes(':') ? 'udp6' : 'udp4')
  await new Promise((done) => socket.bind(0, done))
  return socket
}
// Sends, and waits for one answer.
const ask = async (socket, payload, port, host) => {
  const answered = once(socket, 'message', { signal: AbortSignal.timeout(60_000) })
  socket.send(payload, port, host)
  const [message, sender] = await answered
  return { message, sender }
}
`

/** Sends datagrams of these sizes to an echo at end `a`, one after the other: each comes back as it was, from where it went. */
export async function assertEchoes(
  lab: Lab,
  host: string,
  port: number,
  sizes: readonly number[],
): Promise<void> {
  const echoed = await script<number[]>(
    lab,
    'b',
    `const socket = await open('${host}')
    const sizes = []
    for (const size of ${JSON.stringify(sizes)}) {
      const payload = Buffer.from(Array.from({ length: size }, (_, i) => i * 3))
      const { message, sender } = await ask(socket, payload, ${port}, '${host}')
      if (!message.equals(payload) || sender.address !== '${host}' || sender.port !== ${port}) throw new Error(size)
      sizes.push(message.length)
    }
    socket.close()
    say(sizes)`,
  )
  assert.deepEqual(echoed, sizes)
}

/** Runs a command at an end, which must succeed. */
export async function run(lab: Lab, end: EndId, ...command: string[]): Promise<string> {
  const { stdout, stderr, status } = await lab.exec(end, command[0], command.slice(1))
  assert.equal(status, 0, `${command.join(' ')}: ${stderr}`)
  return stdout
}

/** tcpdump at end `b`, and what it has printed so far. */
export async function dump(lab: Lab, ...filter: string[]): Promise<{ text: () => string; stop: () => void }> {
  const tcpdump = lab.spawn('b', 'tcpdump', ['-i', lab.b.interface, '-n', '-e', '-vv', '-l', ...filter], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let text = ''
  let said = ''
  tcpdump.stdout?.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  tcpdump.stderr?.setEncoding('utf8').on('data', (chunk: string) => (said += chunk))
  await until('tcpdump listens', () => said.includes('listening'))
  return { text: () => text, stop: () => void tcpdump.kill('SIGKILL') }
}

/** An end's IPv6 address. */
export const ipv6 = (end: { ipv6: string | undefined }): string => end.ipv6 as string
