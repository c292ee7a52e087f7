// What tests of forwarding need: two labs whose ends `b` are on one network once their ends `a` are forwarded to each other.
import type { TestContext } from 'node:test'
import { Forwarder, type ForwarderOptions } from '../../src/forward/index.js'
import { addAddress } from '../../src/kernel/netlink/index.js'
import type { EndId, Lab, LabOptions } from '../../src/lab/index.js'
import { parseCidr, type Cidr } from '../../src/packet/index.js'
import { createTestLab } from '../support/lab.js'
import { assertConserved, until } from '../support/xsk.js'

export { assertNoLoss } from '../support/ping.js'

/** Addresses of the two far ends, which know nothing of each other's hardware addresses. */
export const LEFT = '10.99.0.1'
export const RIGHT = '10.99.0.2'
export const LEFT6 = 'fd00:99::1'
export const RIGHT6 = 'fd00:99::2'

/** Two labs: traffic from the end `b` of one to that of the other has to be forwarded from `a` to `a`. */
export function twoLabs(t: TestContext, options: LabOptions = {}): { left: Lab; right: Lab } {
  const left = createTestLab(t, options)
  const right = createTestLab(t, options)
  for (const [lab, addresses] of [
    [left, [`${LEFT}/24`, `${LEFT6}/64`]],
    [right, [`${RIGHT}/24`, `${RIGHT6}/64`]],
  ] as const) {
    for (const address of addresses) addAddress(lab.b.ifindex, parseCidr(address) as Cidr, lab.b)
  }
  return { left, right }
}

const at = (lab: Lab) => ({ interface: lab.a.interface, namespace: lab.a.namespace })

/** A forwarder that runs until the test ends, or `stop` is called, which demands that every frame is home. */
export async function forward(
  t: TestContext,
  labs: { left: Lab; right?: Lab },
  options: Partial<ForwarderOptions> = {},
): Promise<{ forwarder: Forwarder; stop: () => Promise<void> }> {
  const forwarder = await Forwarder.open({
    in: at(labs.left),
    ...(labs.right && { out: at(labs.right) }),
    trackFrames: true,
    ...options,
  })
  const running = forwarder.run()
  let stopped: Promise<void> | undefined
  const stop = () =>
    (stopped ??= (async () => {
      forwarder.stop()
      await running
      await assertAllHome(forwarder)
      await forwarder.close()
    })())
  t.after(stop)
  return { forwarder, stop }
}

/** Every frame of every socket is its own again. */
export async function assertAllHome(forwarder: Forwarder): Promise<void> {
  const { group } = forwarder
  const home = () => {
    group.flush()
    for (const socket of group.sockets) while (socket.receive(() => undefined) > 0);
    return group.sockets.every((socket) => {
      const { total, free, fill } = assertConserved(socket)
      return free + fill === total
    })
  }
  await forwarder.drain(10_000)
  await until('all frames are home', home)
}

/** Starts tcpdump at an end. The function answers with what it has written once `isAll` has said that this is all. */
export async function startTcpdump(
  t: TestContext,
  lab: Lab,
  end: EndId,
  args: readonly string[],
): Promise<(isAll: (text: string) => boolean) => Promise<string>> {
  const child = lab.spawn(
    end,
    'tcpdump',
    ['-i', lab[end].interface, '-n', '-l', '--immediate-mode', ...args],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  )
  t.after(() => child.kill('SIGKILL'))
  let text = ''
  let said = ''
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => (said += chunk))
  const ended = new Promise((resolve) => child.once('close', resolve))
  await until('tcpdump listens', () => said.includes('listening'))
  return async (isAll) => {
    await until('tcpdump has seen it', () => isAll(text))
    // What it is in the middle of, it writes to its end.
    child.kill('SIGINT')
    await ended
    return text
  }
}
