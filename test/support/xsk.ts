// What tests of sockets need on top of a lab: sockets that close with the test, frames, traffic made in the kernel, waiting.
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { BpfProgram, queryXdp, type AttachedProgram } from '../../src/bpf/index.js'
import { exit, mov, r0 } from '../../src/bpf/asm.js'
import type { Lab, LabEnd } from '../../src/lab/index.js'
import { XDP_PASS, XDP_TX } from '../../src/programs/verdicts.js'
import { XdpSocket, type FrameCensus, type XdpPacket, type XdpSocketOptions } from '../../src/xsk/index.js'

/** Opens a socket at an end of a lab, closed when the test ends. */
export async function openAt(
  t: TestContext,
  end: LabEnd,
  options: Omit<XdpSocketOptions, 'interface' | 'namespace'> = {},
): Promise<XdpSocket> {
  const socket = await XdpSocket.open({ interface: end.interface, namespace: end.namespace, ...options })
  t.after(() => socket.close())
  return socket
}

/** Turns the event loop until `isSo`, and fails after a time that no working machine needs. */
export async function until(what: string, isSo: () => boolean, timeoutMs = 60_000): Promise<void> {
  const deadline = performance.now() + timeoutMs
  while (!isSo()) {
    if (performance.now() > deadline) assert.fail(`waited ${timeoutMs} ms in vain until ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}

/** A promise, and whether it is settled: what a test can ask without waiting for it. */
export function watchPromise<T>(promise: Promise<T>): { promise: Promise<T>; settled: () => boolean } {
  let settled = false
  const done = () => (settled = true)
  promise.then(done, done)
  return { promise, settled: () => settled }
}

/** A frame of `length` bytes that the other end takes for its own, filled so that any shifted, cut or mixed-up byte shows. */
export function frameOf(length: number, seed = length): Uint8Array {
  const frame = new Uint8Array(length)
  for (let i = 0; i < length; i++) frame[i] = (i * 31 + (i >> 8) * 17 + seed * 101) & 0xff
  // Unicast, locally administered; an EtherType that nobody listens to (IEEE local experimental 1).
  frame.set([0x02, 0, 0, 0, 0, 0x0a, 0x02, 0, 0, 0, 0, 0x0b, 0x88, 0xb5].slice(0, length))
  return frame
}

/**
 * Takes what is there and appends copies of the frames made by `frameOf`. Others are left out: a program in generic
 * mode also sees what the kernel loops back of its own multicast, without an Ethernet header (dev_loopback_xmit), and the
 * report that a fresh lab sends for its IPv6 address may still be under way.
 */
export function collect(socket: XdpSocket, into: Uint8Array[]): void {
  socket.receive((packet) => {
    if (isOurs(packet)) into.push(packet.copy())
  })
}

/** Whether a packet was made by `frameOf`. */
export function isOurs({ bytes, offset }: XdpPacket): boolean {
  return bytes[offset + 12] === 0x88 && bytes[offset + 13] === 0xb5
}

/** What is attached at an end. */
export function attachedAt(end: LabEnd): AttachedProgram[] {
  return queryXdp(end.interface, { namespace: end.namespace })
}

/** Traffic that the kernel makes: frames leave an end of a lab without a packet socket or an AF_XDP socket there. */
export interface Generator {
  /** Sends `count` copies of `packet`, blocking this thread. */
  send(packet: Uint8Array, count: number): void
}

/** Makes a generator at an end: live frames with the verdict XDP_TX leave by the device they seem to have come from. */
export function generatorAt(t: TestContext, end: LabEnd): Generator {
  const program = BpfProgram.load({ type: 'xdp', name: 'generator', code: [mov(r0, XDP_TX), exit()] })
  t.after(() => program.close())
  return {
    send(packet, count) {
      program.runLive({
        packet,
        repeat: count,
        ingressIfindex: end.ifindex,
        ...(end.namespace && { namespace: end.namespace }),
      })
    },
  }
}

/** A program that passes everything, loaded for the test: something to be in the way. */
export function passProgram(t: TestContext): BpfProgram {
  const program = BpfProgram.load({ type: 'xdp', name: 'in_the_way', code: [mov(r0, XDP_PASS), exit()] })
  t.after(() => program.close())
  return program
}

/** Every frame is somewhere, once, and no count is impossible. */
export function assertConserved(socket: XdpSocket): FrameCensus {
  const census = socket.frames()
  const { total, ...places } = census
  const sum = Object.values(places).reduce((a, b) => a + b, 0)
  assert.equal(sum, total, JSON.stringify(census))
  for (const [place, count] of Object.entries(places)) {
    assert.ok(count >= 0, `${place}: ${JSON.stringify(census)}`)
  }
  return census
}

/** After `drain`, with nothing held and the rest read: each frame is free or with the kernel to receive into. */
export async function assertAllHome(socket: XdpSocket): Promise<void> {
  await socket.drain()
  while (socket.receive(() => undefined) > 0);
  const { total, free, fill, ...elsewhere } = assertConserved(socket)
  assert.deepEqual(elsewhere, { rx: 0, held: 0, tx: 0, completion: 0 })
  assert.equal(free + fill, total)
}

/** Both ends' packet counters. */
export function linkPackets(lab: Lab): {
  aReceived: number
  aSent: number
  bReceived: number
  bSent: number
} {
  const { a, b } = lab.stats()
  return { aReceived: a.rxPackets, aSent: a.txPackets, bReceived: b.rxPackets, bSent: b.txPackets }
}
