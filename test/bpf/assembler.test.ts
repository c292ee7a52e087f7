// The assembler: labels, calls, map references, source lines, and what it refuses.
import assert from 'node:assert/strict'
import { fileURLToPath } from 'node:url'
import { test } from 'node:test'
import {
  type Code,
  type Operation,
  callLocal,
  exit,
  jump,
  jumpIf,
  jumpLong,
  label,
  load64,
  loadFunction,
  loadMap,
  loadMapValue,
  mov,
  r0,
  r1,
  r2,
  withSource,
} from '../../src/bpf/asm.js'
import { AssemblerError, assemble, captureSources, disassemble, sourceText } from '../../src/bpf/index.js'

const texts = (code: Code): string[] => disassemble(assemble(code).bytes).map(({ text }) => text)

test('jumps count slots, wide loads as two', () => {
  const code = [
    jumpIf(r1, '==', 0, 'end'),
    load64(r2, 1n),
    jump('start'),
    label('start'),
    label('again'),
    mov(r0, 1),
    jumpIf(r0, '>', r2, 'again'),
    label('end'),
    exit(),
  ]
  assert.deepEqual(texts(code), [
    'if r1 == 0x0 goto pc+5',
    'r2 = 0x1',
    'goto pc+0',
    'r0 = 1',
    'if r0 > r2 goto pc-2',
    'exit',
  ])
  assert.deepEqual(Object.fromEntries(assemble(code).labels), { start: 4, again: 4, end: 6 })
})

test('lists nest as deep as you like', () => {
  const pass: Code = [mov(r0, 2), [exit()]]
  assert.deepEqual(texts([[[]], [pass]]), ['r0 = 2', 'exit'])
})

test('calls and function addresses are relative, and make functions', () => {
  const program = assemble([
    label('entry'),
    callLocal('twice'),
    loadFunction(r2, 'callback'),
    exit(),
    label('twice'),
    mov(r0, 2),
    exit(),
    label('callback'),
    mov(r0, 0),
    exit(),
  ])
  const instructions = disassemble(program.bytes).map(({ instruction }) => instruction)
  assert.equal(0 + 1 + instructions[0].imm, 4)
  assert.equal(1 + 1 + instructions[1].imm, 6)
  assert.deepEqual(program.functions, [
    { name: 'entry', index: 0 },
    { name: 'twice', index: 4 },
    { name: 'callback', index: 6 },
  ])
  assert.deepEqual(assemble([exit()]).functions, [{ name: 'main', index: 0 }])
})

test('map references say where, which and how', () => {
  const map = { fd: 7, name: 'm' }
  const program = assemble([mov(r0, 0), loadMap(r1, 'flows'), loadMapValue(r2, map, 24), exit()])
  assert.deepEqual(program.references, [
    { index: 1, map: 'flows', kind: 'map' },
    { index: 3, map, kind: 'value' },
  ])
  assert.equal(disassemble(program.bytes)[2].instruction.high, 24)
})

test('labels that are missing or there twice are named', () => {
  assert.throws(() => assemble([jump('nowhere'), exit()]), { code: 'XDP_ASSEMBLER', message: /"nowhere"/ })
  assert.throws(() => assemble([label('a'), exit(), label('a'), exit()]), {
    code: 'XDP_ASSEMBLER',
    label: 'a',
    message: /twice/,
  })
})

test('a jump reaches 32767 slots and no further, a long one does', () => {
  const over = (slots: number, jumping = jump('far')): Code => [
    jumping,
    Array.from({ length: slots }, () => mov(r0, 0)),
    label('far'),
    exit(),
  ]
  assert.equal(texts(over(32767))[0], 'goto pc+32767')
  assert.throws(() => assemble(over(32768)), { code: 'XDP_ASSEMBLER', label: 'far', hint: /jumpLong/ })
  assert.equal(texts(over(40000, jumpLong('far')))[0], 'gotol pc+40000')
  const back: Code = [label('top'), Array.from({ length: 32768 }, () => mov(r0, 0)), jump('top')]
  assert.throws(() => assemble(back), AssemblerError)
})

test('a jump that does not reach can be written as a long one', () => {
  const over = (slots: number, jumping: Operation): string[] => {
    const code = [jumping, Array.from({ length: slots }, () => mov(r0, 0)), label('far'), exit()]
    const assembled = assemble(code, { farJumps: 'long' })
    assert.equal(assembled.hasLongJumps ?? false, slots > 32767)
    return disassemble(assembled.bytes)
      .slice(0, 3)
      .map(({ text }) => text)
  }
  assert.equal(over(32767, jump('far'))[0], 'goto pc+32767')
  assert.deepEqual(over(32768, jump('far')).slice(0, 2), ['gotol pc+32768', 'r0 = 0'])
  // What has a condition jumps over the long jump where the condition fails.
  assert.deepEqual(over(32768, jumpIf(r1, 's<', 7, 'far')), [
    'if r1 s>= 0x7 goto pc+1',
    'gotol pc+32768',
    'r0 = 0',
  ])
  // There is no jump for "none of these bits".
  assert.deepEqual(over(32768, jumpIf(r1, '&', 7, 'far')), [
    'if r1 & 0x7 goto pc+1',
    'goto pc+1',
    'gotol pc+32768',
  ])
})

test('jumps that become long move others out of reach, and labels with them', () => {
  // The first reaches its label only as long as the second is short.
  const code = [
    jumpIf(r2, '==', 0, 'near'),
    jumpIf(r1, '==', 0, 'end'),
    Array.from({ length: 32766 }, () => mov(r0, 0)),
    label('near'),
    mov(r0, 1),
    mov(r0, 2),
    label('end'),
    exit(),
  ]
  const { bytes, labels } = assemble(code, { farJumps: 'long' })
  assert.deepEqual(
    disassemble(bytes)
      .slice(0, 4)
      .map(({ text }) => text),
    ['if r2 != 0x0 goto pc+1', 'gotol pc+32768', 'if r1 != 0x0 goto pc+1', 'gotol pc+32768'],
  )
  assert.deepEqual(Object.fromEntries(labels), { near: 32770, end: 32772 })
})

test('captured sources name this file and the line each instruction stands on', () => {
  const code = captureSources(() => [
    mov(r0, 2), // first
    [exit()], // second
  ])
  const { lines } = assemble(code)
  assert.deepEqual(
    lines.map(({ index }) => index),
    [0, 1],
  )
  const own = fileURLToPath(import.meta.url)
  for (const { source } of lines) {
    assert.ok(
      source.file === own || source.file === own.replace('/dist/', '/').replace(/js$/, 'ts'),
      source.file,
    )
  }
  assert.match(sourceText(lines[0].source)!, /mov\(r0, 2\)/)
  assert.match(sourceText(lines[1].source)!, /exit\(\)/)
  // Off again afterwards, and off by default.
  assert.deepEqual(assemble([exit()]).lines, [])
})

test('sources can be given, and do not overwrite those that are there', () => {
  const inner = { file: '/a.ts', line: 1, column: 1 }
  const outer = { file: '/b.ts', line: 2, column: 3 }
  const { lines } = assemble(withSource(outer, [mov(r0, 0), withSource(inner, [exit()])]))
  assert.deepEqual(lines, [
    { index: 0, source: outer },
    { index: 1, source: inner },
  ])
  assert.throws(() => assemble(withSource(inner, [jump('x')])), { source: inner, message: /\/a\.ts:1/ })
})
