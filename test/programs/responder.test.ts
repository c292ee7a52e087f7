// The responder written with the builder answers as the one written by hand in the assembler does.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BpfMap, BpfProgram, bytes, u8 } from '../../src/bpf/index.js'
import type { XdpDefinition } from '../../src/bpf/builder/index.js'
import { RedirectProgram } from '../../src/programs/redirect.js'
import { defineResponder } from '../../src/programs/responder.js'
import { random } from '../bpf/builder/random-program.js'
import { ADDRESSES, randomPacket } from './packets.js'
import { responderByHand } from './responder-by-hand.js'

// In a test run no queue has a socket. A map of devices that holds the loopback device stands in for the sockets: what is
// redirected answers `redirect`, and nothing is sent.
test('the responder and its twin in the assembler give every packet the same verdict and the same bytes', () => {
  const built = defineResponder(1)
  const devices = BpfMap.create({ type: 'devmap', name: 'xsks_map', maxEntries: 1 })
  const { program, addresses, close } = load(built, devices)
  try {
    devices.update(0, 1)
    for (const address of ADDRESSES) addresses.update(mapKey(address), 1)
    const byHand = BpfProgram.load({
      type: 'xdp',
      name: 'by_hand',
      code: responderByHand(devices, addresses),
      frags: built.loadsWithFrags,
    })
    try {
      const next = random(7)
      const counts = { pass: 0, redirect: 0 }
      for (let i = 0; i < 100_000; i++) {
        const packet = randomPacket(next)
        const [a, b] = [program.testRun({ packet }), byHand.testRun({ packet })]
        // The text only where it is needed: a hundred thousand of them take as long as the packets.
        if (a.verdict !== b.verdict || Buffer.compare(a.packet, b.packet) !== 0) {
          const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
          assert.fail(
            `${a.verdict} instead of ${b.verdict}\n${hex(packet)} became\n${hex(a.packet)} instead of\n${hex(b.packet)}`,
          )
        }
        counts[a.verdict as 'pass' | 'redirect']++
      }
      assert.ok(counts.redirect > 2500 && counts.pass > 2500, JSON.stringify(counts))
    } finally {
      byHand.close()
    }
  } finally {
    close()
    devices.close()
  }
})

function load(definition: XdpDefinition, devices: BpfMap<number, number>) {
  const addresses = BpfMap.create({ type: 'hash', key: bytes(16), value: u8, maxEntries: 16 })
  const loaded = definition.load({ maps: { xsks_map: devices, addresses } })
  return {
    program: loaded.program,
    addresses,
    close: () => {
      loaded.close()
      addresses.close()
    },
  }
}

const mapKey = (address: Uint8Array): Uint8Array =>
  address.length === 16 ? address : Uint8Array.of(...Array<number>(10).fill(0), 0xff, 0xff, ...address)

test('redirect passes where no socket is', () => {
  const program = RedirectProgram.load({ queues: 4 })
  try {
    assert.equal(program.program.testRun({ packet: new Uint8Array(60) }).verdict, 'pass')
  } finally {
    program.close()
  }
})
