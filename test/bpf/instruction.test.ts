// Encoding, decoding and disassembly of single instructions: a table, clang's assembler, and random bytes.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { add, add32, be, load, load64, mov, mov32, r0, r1, r10, store } from '../../src/bpf/asm.js'
import {
  BPF_FUNC,
  decodeProgram,
  disassemble,
  disassembleInstruction,
  encodeProgram,
  helperName,
  listing,
} from '../../src/bpf/index.js'
import { LD_IMM64 } from '../../src/bpf/instruction.js'
import { instructionTable } from './instruction-table.js'

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

test('every form of instruction has its bytes and its text', () => {
  assert.ok(instructionTable.length >= 120)
  for (const [instruction, bytes, text] of instructionTable) {
    assert.equal(hex(encodeProgram([instruction])), bytes, text)
    assert.equal(disassembleInstruction(instruction), text)
    assert.equal(disassembleInstruction(decodeProgram(Buffer.from(bytes, 'hex'))[0]), text)
  }
})

test('the table as one program keeps its slots', () => {
  const bytes = encodeProgram(instructionTable.map(([instruction]) => instruction))
  const lines = disassemble(bytes)
  assert.deepEqual(
    lines.map(({ text }) => text),
    instructionTable.map(([, , text]) => text),
  )
  assert.equal(lines.at(-1)!.index * 8, bytes.length - 8)
})

test('operands out of range are refused, with the way out', () => {
  // A 64-bit operation would turn 0xffffffff into -1.
  assert.throws(() => mov(r0, 0xffffffff), { code: 'XDP_BAD_OPTION', hint: /load64/ })
  assert.equal(disassembleInstruction(mov32(r0, 0xffffffff)), 'w0 = -1')
  assert.throws(() => add(r0, 1.5), { code: 'XDP_BAD_OPTION' })
  assert.throws(() => add32(r0, 2 ** 32), { code: 'XDP_BAD_OPTION' })
  assert.throws(() => load('u8', r0, r1, 32768), { code: 'XDP_BAD_OPTION', option: 'offset' })
  assert.throws(() => store('u64', r10, -8, 0x80000000), { code: 'XDP_BAD_OPTION' })
  assert.throws(() => load64(r0, 2n ** 64n), { code: 'XDP_BAD_OPTION' })
  assert.throws(() => load64(r0, 2 ** 53), { code: 'XDP_BAD_OPTION', hint: /BigInt/ })
})

test('helper numbers are those of the uapi header', () => {
  assert.equal(Object.keys(BPF_FUNC).length, 212)
  assert.equal(BPF_FUNC.map_lookup_elem, 1)
  assert.equal(BPF_FUNC.xdp_adjust_head, 44)
  assert.equal(BPF_FUNC.redirect_map, 51)
  assert.equal(BPF_FUNC.ringbuf_output, 130)
  assert.equal(BPF_FUNC.user_ringbuf_drain, 209)
  assert.equal(BPF_FUNC.cgrp_storage_delete, 211)
  assert.equal(helperName(212), undefined)
})

test('any bytes decode, disassemble and encode back to themselves', () => {
  const word = fc.uint8Array({ minLength: 8, maxLength: 8 })
  // Half of the words have an opcode that is one, so that the deep branches are met.
  const opcodes = [...new Set(instructionTable.map(([{ opcode }]) => opcode))]
  const plausible = fc.tuple(fc.constantFrom(...opcodes), word).map(([opcode, bytes]) => {
    return Uint8Array.of(opcode, ...bytes.subarray(1))
  })
  fc.assert(
    fc.property(fc.array(fc.oneof(word, plausible), { maxLength: 12 }), (words) => {
      const bytes = Uint8Array.from(words.flatMap((word) => [...word]))
      const decoded = decodeProgram(bytes)
      assert.equal(hex(encodeProgram(decoded)), hex(bytes))
      assert.deepEqual(decodeProgram(encodeProgram(decoded)), decoded)
      for (const { text } of disassemble(bytes)) assert.doesNotMatch(text, /undefined|NaN/)
    }),
    { seed: 1, numRuns: 3000 },
  )
})

test('every opcode byte has a text, and a cut wide load is said to be none', () => {
  for (let opcode = 0; opcode < 256; opcode++) {
    const [line] = disassemble(Uint8Array.of(opcode, 0x21, 4, 0, 7, 0, 0, 0))
    assert.match(line.text, /^\S/)
  }
  assert.equal(listing(encodeProgram([load64(r0, 1)]).subarray(0, 8)), '   0: (18) BUG_ld_18\n')
  assert.equal(listing(encodeProgram([be(r1, 16)]).subarray(0, 7)), '')
})

const hasClang =
  spawnSync('clang', ['--version']).status === 0 && spawnSync('llvm-objdump', ['--version']).status === 0

test(
  "LLVM's disassembler reads the same in the bytes",
  { skip: !hasClang && 'clang is not installed' },
  (t) => {
    const rows = instructionTable.flatMap(([{ opcode, src }, bytes, text]) => {
      // Wide loads of maps and functions have another text there.
      const expected = opcode === LD_IMM64 && src !== 0 ? undefined : llvmSyntax(text)
      return expected === undefined ? [] : [{ bytes, expected }]
    })
    assert.ok(rows.length >= 110, `only ${rows.length} rows can be compared`)
    const directory = mkdtempSync(join(tmpdir(), 'xdp-asm-'))
    t.after(() => rmSync(directory, { recursive: true }))
    const [source, object] = ['a.s', 'a.o'].map((file) => join(directory, file))
    writeFileSync(
      source,
      rows.map(({ bytes }) => `.byte ${bytes.replace(/../g, '0x$&,').slice(0, -1)}\n`).join(''),
    )
    execFileSync('clang', ['-target', 'bpf', '-c', source, '-o', object])
    const dump = execFileSync(
      'llvm-objdump',
      ['-d', '--no-show-raw-insn', '--mcpu=v3', '--mattr=+alu32', object],
      {
        encoding: 'utf8',
      },
    )
    const lines = [...dump.matchAll(/^\s+\d+:\s+(.*?)(?: <[^ ]*>)?$/gm)].map((match) => match[1])
    assert.deepEqual(
      lines,
      rows.map(({ expected }) => expected),
    )
  },
)

/** The kernel's notation in LLVM's; undefined for what LLVM 14 does not know (modulo, cpu v4, immediate stores, `&`). */
function llvmSyntax(text: string): string | undefined {
  const unknown = [
    /s\/=|%=|\(s\d+\)|bswap|\(s\d+ \*\)|load_acquire|store_release|gotol|kernel-function|call pc/,
    /^\*.* = -?\d+$/, // immediate store
    /skb\[r/, // an indirect load without its immediate
    / & .* goto/,
  ]
  if (unknown.some((pattern) => pattern.test(text))) return undefined
  const spaced = text.replace(/ ([+-])(\d+)\)/g, ' $1 $2)')
  const isNarrow = spaced.includes('(u32 *)')
  // With 32-bit registers on, LLVM names them wherever the access is narrow.
  if (/^r\d+ = \*\(u(8|16|32) /.test(spaced) && !spaced.includes('skb')) return spaced.replace(/^r/, 'w')
  if (/^\*\(u(8|16|32) /.test(spaced)) return spaced.replace(/r(\d+)$/, 'w$1')
  if (spaced.startsWith('lock')) return isNarrow ? spaced.replace(/r(\d+)$/, 'w$1') : spaced
  let match: RegExpExecArray | null
  if ((match = /^r(\d+) = atomic(?:64)?_(fetch_\w+)\((.*), r\d+\)$/.exec(spaced))) {
    const register = `${isNarrow ? 'w' : 'r'}${match[1]}`
    return `${register} = atomic_${match[2]}(${match[3]}, ${register})`
  }
  if ((match = /^r(\d+) = atomic(?:64)?_xchg\(\(\w+ \*\)\((.*)\), r\d+\)$/.exec(spaced))) {
    const [, register, place] = match
    return isNarrow
      ? `w${register} = xchg32_32(${place}, w${register})`
      : `r${register} = xchg_64(${place}, r${register})`
  }
  if ((match = /^r0 = atomic(?:64)?_cmpxchg\(\(\w+ \*\)\((.*)\), r0, r(\d+)\)$/.exec(spaced))) {
    const [, place, register] = match
    return isNarrow
      ? `w0 = cmpxchg32_32(${place}, w0, w${register})`
      : `r0 = cmpxchg_64(${place}, r0, r${register})`
  }
  if ((match = /^(r\d+ = )(0x[0-9a-f]+)$/.exec(spaced)))
    return `${match[1]}${BigInt.asIntN(64, BigInt(match[2]))} ll`
  if ((match = /^call \w+#(\d+)$/.exec(spaced))) return `call ${match[1]}`
  return spaced
    .replace(/goto pc([+-]\d+)/, 'goto $1')
    .replace(/ 0x([0-9a-f]+) goto/, (_, digits: string) => ` ${parseInt(digits, 16) | 0} goto`)
}
