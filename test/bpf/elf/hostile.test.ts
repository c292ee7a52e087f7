// Objects made to harm: references out of the file, descriptors of the loader, and sizes meant to keep it busy.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { assemble } from '../../../src/bpf/assembler.js'
import { call, callLocal, exit, label, loadMap, mov, r0, r1 } from '../../../src/bpf/asm.js'
import { BtfBuilder, encodeBtf, type BtfType } from '../../../src/bpf/btf/index.js'
import { codecOfType } from '../../../src/bpf/btf/to-codec.js'
import { Btf } from '../../../src/bpf/btf/decode.js'
import { BpfObject, ElfError } from '../../../src/bpf/elf/index.js'
import { objectBtf } from '../../../src/bpf/elf/object-btf.js'
import { readElf } from '../../../src/bpf/elf/file.js'
import { type SymbolToWrite, relocations, writeElf } from './write.js'

const EXEC = 4
const pass = assemble([mov(r0, 2), exit()]).bytes

function refused(read: () => unknown): ElfError {
  try {
    read()
  } catch (error) {
    assert.ok(error instanceof ElfError, String(error))
    return error
  }
  assert.fail('it was taken')
}
const code = (bytes: Uint8Array, name = 'xdp') => ({ name, flags: EXEC, bytes })
const main = (size: number): SymbolToWrite => ({ name: 'main', type: 2, section: 1, value: 0, size })

describe('an object made by hand', () => {
  test('the smallest sound one is read and linked', () => {
    const object = BpfObject.parse(writeElf([code(pass)], [main(16)]))
    assert.deepEqual(object.link('main').bytes, pass)
  })

  test('an instruction cannot name a descriptor of the process', () => {
    const code64 = assemble([loadMap(r1, { fd: 5, name: 'x' }), call('get_smp_processor_id'), exit()]).bytes
    code64[4] = 5
    const object = BpfObject.parse(writeElf([code(code64)], [main(code64.length)]))
    assert.match(
      refused(() => object.link('main')).message,
      /without a relocation .*symbol "main", offset 0x0/,
    )
  })

  test('calls go to functions only', () => {
    const calling = assemble([callLocal('there'), exit(), label('there'), mov(r0, 2), exit()]).bytes
    const sound = writeElf([code(calling)], [main(16), { ...main(16), name: 'there', binding: 0, value: 16 }])
    assert.equal(BpfObject.parse(sound).link('main').functions.length, 2)
    const nowhere = BpfObject.parse(writeElf([code(calling)], [main(16)]))
    assert.match(refused(() => nowhere.link('main')).message, /no function at slot 2/)
  })

  test('functions stay inside their section', () => {
    for (const [value, size] of [
      [0, 24],
      [8, 16],
      [4, 8],
      [0, 12],
      [0, 0],
      [2 ** 60, 8],
    ]) {
      const bytes = writeElf([code(pass)], [{ ...main(size), value }])
      assert.match(refused(() => BpfObject.parse(bytes)).message, /function/)
    }
  })

  test('relocations stay inside theirs, and have no addends', () => {
    const rel = (offset: number, symbol: number, type = 9) =>
      writeElf(
        [code(pass), { name: '.relxdp', type, info: 1, bytes: relocations([{ offset, symbol }]) }],
        [main(16)],
      )
    assert.match(refused(() => BpfObject.parse(rel(16, 1))).message, /behind the end/)
    assert.match(refused(() => BpfObject.parse(rel(0, 9))).message, /symbol that does not exist/)
    assert.match(refused(() => BpfObject.parse(rel(0, 1, 4))).message, /addends/)
    assert.match(refused(() => BpfObject.parse(rel(8, 1)).link('main')).message, /no address/)
  })

  test('variables stay inside their section, however large it says it is', () => {
    const data = { name: '.data', bytes: new Uint8Array(8) }
    const variable = { name: 'v', type: 1, section: 2, value: 4, size: 8 }
    assert.match(
      refused(() => BpfObject.parse(writeElf([code(pass), data], [main(16), variable]))).message,
      /12 of 8/,
    )
    const bytes = Uint8Array.from(
      writeElf([code(pass), { name: '.bss', type: 8, bytes: new Uint8Array(8) }], [main(16)]),
    )
    new DataView(bytes.buffer).setBigUint64(64 + 2 * 64 + 32, 2n ** 50n, true)
    assert.match(refused(() => BpfObject.parse(bytes)).message, /Global data of \d+ bytes/)
  })
})

// Each of these would take minutes, or all memory, with one loop inside another.
describe('an object of extreme sizes', { timeout: 60_000 }, () => {
  test('fifty thousand functions over one another', () => {
    const symbols = Array.from({ length: 50_000 }, (_, i) => ({ ...main(pass.length), name: `f${i}` }))
    const object = BpfObject.parse(writeElf([code(pass)], symbols))
    assert.equal(object.programs.length, 1)
  })

  test('a chain of twenty thousand calls', () => {
    const count = 20_000
    const step = assemble([callLocal('next'), exit(), label('next')]).bytes
    const chain = new Uint8Array((count + 1) * 16)
    for (let i = 0; i < count; i++) chain.set(step, i * 16)
    chain.set(pass, count * 16)
    const symbols = Array.from({ length: count + 1 }, (_, i) => ({
      ...main(16),
      name: `f${i}`,
      value: i * 16,
    }))
    assert.equal(BpfObject.parse(writeElf([code(chain)], symbols)).link('f0').functions.length, count + 1)
  })

  test('overlapping functions that add up to more than a million instructions', () => {
    const slots = 4000
    const body = new Uint8Array(slots * 8)
    for (let i = 0; i < slots; i++) body.set(assemble([callLocal('n'), label('n')]).bytes, i * 8)
    const symbols = Array.from({ length: slots }, (_, i) => ({
      ...main((slots - i) * 8),
      name: `f${i}`,
      value: i * 8,
    }))
    const object = BpfObject.parse(writeElf([code(body)], symbols))
    assert.match(refused(() => object.link('f0')).message, /over a million/)
  })

  test('two thousand sections of data', () => {
    const sections = Array.from({ length: 2000 }, (_, i) => ({
      name: `.data.${i}`,
      bytes: new Uint8Array(8),
    }))
    assert.match(
      refused(() => BpfObject.parse(writeElf([code(pass), ...sections], [main(16)]))).message,
      /2000 maps/,
    )
  })

  test('a hundred thousand types of one name, and sections of the same variables', () => {
    const types: BtfType[] = Array.from({ length: 100_000 }, (_, i) => ({
      kind: 'typedef',
      name: 'same',
      type: i,
    }))
    const variables = Array.from({ length: 60_000 }, (_, i) => ({ type: i + 1, offset: 0, size: 4 }))
    types.push({ kind: 'datasec', name: '.data', size: 0, variables })
    for (let i = 0; i < 200; i++)
      types.push({ kind: 'datasec', name: 'license', size: 0, variables: variables.slice(0, 100) })
    const bytes = writeElf(
      [code(pass), { name: '.data', bytes: new Uint8Array(8) }, { name: '.BTF', bytes: encodeBtf(types) }],
      [main(16)],
    )
    const object = BpfObject.parse(bytes)
    assert.equal(object.btf?.findAll('same', true).length, 100_000)
    assert.ok(objectBtf(object.btf, readElf(bytes), []).bytes.length > 0)
  })

  test('structs that double with every level', () => {
    const btf = new BtfBuilder()
    let type = btf.int('int', 4)
    for (let i = 0; i < 24; i++) {
      type = btf.struct(`s${i}`, [
        { name: 'a', type },
        { name: 'b', type },
      ])
    }
    const read = Btf.parse(btf.encode())
    for (let id = 1; id <= type; id++) assert.equal(codecOfType(read, id).size, 4 * 2 ** (id - 1))
  })
})
