// Disassembly against the kernel's own text: the verifier's log, and bpftool's dump of loaded programs.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { test } from 'node:test'
import {
  type Code,
  type Operation,
  add,
  atomic,
  be,
  call,
  callLocal,
  exit,
  jump,
  jumpIf,
  jumpIf32,
  label,
  load,
  load64,
  loadMap,
  loadMapValue,
  mov,
  mov32,
  neg,
  or,
  r0,
  r1,
  r10,
  r2,
  r3,
  r4,
  r5,
  r6,
  r7,
  r8,
  r9,
  rsh,
  store,
  sub32,
  xor,
} from '../../src/bpf/asm.js'
import {
  BpfMap,
  BpfProgram,
  VerifierError,
  disassembleInstruction,
  listing,
  u32,
  u64,
} from '../../src/bpf/index.js'
import { BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE, type Instruction } from '../../src/bpf/instruction.js'
import { kernelAtLeast } from '../../src/kernel/version.js'
import { needsRoot } from '../support/lab.js'
import { instructionTable } from './instruction-table.js'

const registers = [r0, r2, r3, r4, r5, r6, r7, r8, r9]

/** What the verifier's log prints for an instruction, accepted or not, or the whole log when it did not get so far. */
function verifierText(operation: Operation): string {
  // Values everywhere, instructions on both sides for short jumps, and the one in question at 16.
  const code: Code = [
    registers.map((register) => mov(register, 1)),
    Array.from({ length: 7 }, () => mov(r6, 1)),
    { ...operation, to: undefined },
    Array.from({ length: 6 }, () => mov(r7, 1)),
    mov(r0, 0),
    exit(),
  ] as Code
  let log: string
  try {
    const program = BpfProgram.load({ type: 'xdp', code, log: 'verbose' })
    program.close()
    log = program.log!
  } catch (error) {
    if (!(error instanceof VerifierError)) throw error
    log = error.log
  }
  return /^16: \([0-9a-f]{2}\) (.*?)(?:\s+; .*)?$/m.exec(log)?.[1] ?? log
}

test('the verifier prints every instruction as we do', { skip: needsRoot }, () => {
  // These need a place to go to, or a map: they are in the program below. Acquire and release came with 6.15.
  const own = instructionTable.filter(([{ to, map, src, imm, opcode }]) => {
    const isCallElsewhere = opcode === 0x85 && (src !== 0 || imm > 211)
    const isFar = to?.kind === 'long jump' || to?.kind === 'function' || opcode === 0x05
    const isOrdered = opcode === (0xc3 | (opcode & 0x18)) && imm >= 0x100
    const isExit = opcode === 0x95 // what follows would be unreachable
    return map === undefined && !isExit && !isCallElsewhere && !isFar && !(isOrdered && !kernelAtLeast(6, 15))
  })
  const isV4 = kernelAtLeast(6, 6)
  const compared = own.filter(([, , text]) => isV4 || !/s\/=|s%=|\(s\d+|bswap/.test(text))
  assert.ok(compared.length >= 120, `only ${compared.length} compared`)
  for (const [operation, , text] of compared) assert.equal(verifierText(operation), text)
})

const hasBpftool = spawnSync('bpftool', ['version']).status === 0

test(
  'bpftool dumps loaded programs as we do',
  { skip: needsRoot || (!hasBpftool && 'bpftool is not installed') },
  (t) => {
    const counters = BpfMap.create({ type: 'array', name: 'counters', key: u32, value: 24, maxEntries: 1 })
    const flows = BpfMap.create({ type: 'hash', name: 'flows', key: u32, value: u64, maxEntries: 4 })
    const program = BpfProgram.load({ type: 'xdp', name: 'everything', code: everything(counters, flows) })
    t.after(() => [program, counters, flows].forEach((one) => one.close()))
    const dumped = execFileSync('bpftool', ['prog', 'dump', 'xlated', 'id', String(program.id)], {
      encoding: 'utf8',
    })
    const ours = listing(program.translated(), { wide: mapReference })
    assert.equal(comparable(ours), comparable(dumped))
    assert.ok(ours.split('\n').length > 50)
  },
)

// bpftool knows the names of kernel functions that helpers became, and of subprograms.
function comparable(text: string): string {
  return text
    .replace(/call pc([+-]\d+)#\S+/g, 'call pc$1')
    .replace(/call (?!pc)\S+#(-?\d+)/g, 'call #$1')
    .replace(/^(?:int|unsigned|.*\w+:)\s*$/gm, '')
    .replace(/^\s*;.*$/gm, '')
    .replace(/\n+/g, '\n')
    .trim()
}

function mapReference({ src, imm, high }: Instruction): string | undefined {
  if (src === BPF_PSEUDO_MAP_FD) return `map[id:${imm}]`
  if (src === BPF_PSEUDO_MAP_VALUE) return `map[id:${imm}][0]+${high ?? 0}`
  return undefined
}

function everything(counters: BpfMap, flows: BpfMap): Code {
  return [
    mov(r6, r1),
    load('u32', r2, r6, 0),
    load('u32', r3, r6, 4),
    mov(r4, r2),
    add(r4, 14),
    jumpIf(r4, '>', r3, 'short'),
    load('u16', r5, r2, 12),
    be(r5, 16),
    store('u32', r10, -4, r5),
    store('u8', r10, -5, 7),
    store('u64', r10, -16, -2),
    atomic('add', 'u64', r10, -16, r5),
    atomic('fetch-xor', 'u64', r10, -16, r5),
    atomic('xchg', 'u32', r10, -4, r5),
    mov(r0, 1),
    atomic('cmpxchg', 'u64', r10, -16, r5),
    load64(r7, 0x1234_5678_9abcn),
    neg(r7),
    xor(r7, r5),
    or(r7, 0x55),
    rsh(r7, 3),
    mov32(r8, -1),
    sub32(r8, r7),
    jumpIf32(r8, 's<', 5, 'call'),
    jumpIf(r8, '&', 0x80, 'call'),
    jumpIf(r8, 's>=', r7, 'call'),
    jump('call'),
    label('call'),
    mov(r1, r8),
    callLocal('twice'),
    mov(r9, r0),
    loadMap(r1, flows),
    mov(r2, r10),
    add(r2, -4),
    mov(r3, r10),
    add(r3, -16),
    mov(r4, 0),
    call('map_update_elem'),
    loadMap(r1, flows),
    mov(r2, r10),
    add(r2, -4),
    call('map_lookup_elem'),
    jumpIf(r0, '==', 0, 'short'),
    atomic('add', 'u64', r0, 0, r9),
    loadMapValue(r1, counters, 8),
    load('u64', r2, r1, 0),
    store('u64', r1, 8, r2),
    call('ktime_get_ns'),
    label('short'),
    mov(r0, 2),
    exit(),
    label('twice'),
    mov(r0, r1),
    add(r0, r0),
    exit(),
  ]
}

test(
  'what is disassembled here is what the kernel kept of a program it did not rewrite',
  { skip: needsRoot },
  (t) => {
    const program = BpfProgram.load({
      type: 'xdp',
      code: [
        mov32(r0, 7),
        be(r0, 32),
        rsh(r0, 5),
        jumpIf32(r0, '>', 3, 'out'),
        mov(r0, 1),
        label('out'),
        exit(),
      ],
    })
    t.after(() => program.close())
    assert.equal(disassembleInstruction({ opcode: 0x95, dst: 0, src: 0, offset: 0, imm: 0 }), 'exit')
    assert.match(
      listing(program.translated()),
      /^ {3}0: \(b4\) w0 = 7\n {3}1: \(dc\) r0 = be32 r0\n {3}2: \(77\) r0 >>= 5\n/,
    )
  },
)
