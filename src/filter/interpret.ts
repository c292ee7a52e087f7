// The plain TypeScript predicate: an interpreter of the same instructions that the kernel gets.
import { BPF_MEMWORDS, LOADX_HEADER, decode, mnemonic } from './classic.js'
import { lifetimes } from './lifetimes.js'
import type { Instruction } from './linear.js'

/** Whether a packet of `length` captured bytes from `offset` on, `wireLength` long when it was sent, matches. */
export type Predicate = (bytes: Uint8Array, offset: number, length: number, wireLength: number) => boolean

/**
 * Makes a predicate of a program without loops. It allocates nothing when it runs. Registers hold 32 bits as JavaScript's own
 * operators leave them, signed; where the sign would show, it is taken away.
 */
export function interpreter(program: readonly Instruction[]): Predicate {
  const strange = program.find(({ code }) => mnemonic(code, 0)[0] === 'nop')
  if (strange) throw new Error(`No instruction has the code ${strange.code}`)
  const codes = Uint8Array.from(program, ({ code, k }) => (isBeyond(code, k) ? REJECT : code))
  const constants = Int32Array.from(program, ({ code, k }) => (isBeyond(code, k) ? 0 : k | 0))
  const yes = Int32Array.from(program, (one) => one.yes)
  const no = Int32Array.from(program, (one) => one.no)
  const cells = new Int32Array(BPF_MEMWORDS)
  const startsWithCells = (lifetimes(program)[0] & ((1 << BPF_MEMWORDS) - 1)) !== 0

  return (bytes, offset, length, wireLength) => {
    let a = 0
    let x = 0
    let at = 0
    if (startsWithCells) cells.fill(0)
    for (;;) {
      const k = constants[at]
      // Numbers as they are in include/uapi/linux/bpf_common.h: a table is quicker than comparisons with computed ones.
      switch (codes[at]) {
        case 0x30: // BPF_LD | BPF_B | BPF_ABS
          if (k + 1 > length) return false
          a = bytes[offset + k]
          break
        case 0x28: // BPF_LD | BPF_H | BPF_ABS
          if (k + 2 > length) return false
          a = (bytes[offset + k] << 8) | bytes[offset + k + 1]
          break
        case 0x20: // BPF_LD | BPF_W | BPF_ABS
          if (k + 4 > length) return false
          a = word(bytes, offset + k)
          break
        case 0x50: // BPF_LD | BPF_B | BPF_IND
          if (x < 0 || x + k + 1 > length) return false
          a = bytes[offset + x + k]
          break
        case 0x48: // BPF_LD | BPF_H | BPF_IND
          if (x < 0 || x + k + 2 > length) return false
          a = (bytes[offset + x + k] << 8) | bytes[offset + x + k + 1]
          break
        case 0x40: // BPF_LD | BPF_W | BPF_IND
          if (x < 0 || x + k + 4 > length) return false
          a = word(bytes, offset + x + k)
          break
        case 0xb1: // BPF_LDX | BPF_B | BPF_MSH
          if (k + 1 > length) return false
          x = (bytes[offset + k] & 0xf) << 2
          break
        case 0x00: // BPF_LD | BPF_IMM
          a = k
          break
        case 0x80: // BPF_LD | BPF_LEN
          a = wireLength | 0
          break
        case 0x60: // BPF_LD | BPF_MEM
          a = cells[k]
          break
        case 0x01: // BPF_LDX | BPF_IMM
          x = k
          break
        case 0x61: // BPF_LDX | BPF_MEM
          x = cells[k]
          break
        case 0x02: // BPF_ST
          cells[k] = a
          break
        case 0x03: // BPF_STX
          cells[k] = x
          break
        case 0x07: // BPF_MISC | BPF_TAX
          x = a
          break
        case 0x87: // BPF_MISC | BPF_TXA
          a = x
          break
        case 0x84: // BPF_ALU | BPF_NEG
          a = -a | 0
          break
        case 0x04: // BPF_ALU | BPF_ADD | BPF_K
          a = (a + k) | 0
          break
        case 0x0c: // BPF_ALU | BPF_ADD | BPF_X
          a = (a + x) | 0
          break
        case 0x14: // BPF_ALU | BPF_SUB | BPF_K
          a = (a - k) | 0
          break
        case 0x1c: // BPF_ALU | BPF_SUB | BPF_X
          a = (a - x) | 0
          break
        case 0x24: // BPF_ALU | BPF_MUL | BPF_K
          a = Math.imul(a, k)
          break
        case 0x2c: // BPF_ALU | BPF_MUL | BPF_X
          a = Math.imul(a, x)
          break
        case 0x34: // BPF_ALU | BPF_DIV | BPF_K
          a = ((a >>> 0) / (k >>> 0)) | 0
          break
        case 0x3c: // BPF_ALU | BPF_DIV | BPF_X
          if (x === 0) return false
          a = ((a >>> 0) / (x >>> 0)) | 0
          break
        case 0x94: // BPF_ALU | BPF_MOD | BPF_K
          a = ((a >>> 0) % (k >>> 0)) | 0
          break
        case 0x9c: // BPF_ALU | BPF_MOD | BPF_X
          if (x === 0) return false
          a = ((a >>> 0) % (x >>> 0)) | 0
          break
        case 0x54: // BPF_ALU | BPF_AND | BPF_K
          a = a & k
          break
        case 0x5c: // BPF_ALU | BPF_AND | BPF_X
          a = a & x
          break
        case 0x44: // BPF_ALU | BPF_OR | BPF_K
          a = a | k
          break
        case 0x4c: // BPF_ALU | BPF_OR | BPF_X
          a = a | x
          break
        case 0xa4: // BPF_ALU | BPF_XOR | BPF_K
          a = a ^ k
          break
        case 0xac: // BPF_ALU | BPF_XOR | BPF_X
          a = a ^ x
          break
        case 0x64: // BPF_ALU | BPF_LSH | BPF_K
          a <<= k
          break
        case 0x6c: // BPF_ALU | BPF_LSH | BPF_X
          a = x >>> 0 < 32 ? a << x : 0
          break
        case 0x74: // BPF_ALU | BPF_RSH | BPF_K
          a = (a >>> k) | 0
          break
        case 0x7c: // BPF_ALU | BPF_RSH | BPF_X
          a = x >>> 0 < 32 ? (a >>> x) | 0 : 0
          break
        case 0x05: // BPF_JMP | BPF_JA
          at = yes[at]
          continue
        case 0x15: // BPF_JMP | BPF_JEQ | BPF_K
          at = a === k ? yes[at] : no[at]
          continue
        case 0x1d: // BPF_JMP | BPF_JEQ | BPF_X
          at = a === x ? yes[at] : no[at]
          continue
        case 0x25: // BPF_JMP | BPF_JGT | BPF_K
          at = a >>> 0 > k >>> 0 ? yes[at] : no[at]
          continue
        case 0x2d: // BPF_JMP | BPF_JGT | BPF_X
          at = a >>> 0 > x >>> 0 ? yes[at] : no[at]
          continue
        case 0x35: // BPF_JMP | BPF_JGE | BPF_K
          at = a >>> 0 >= k >>> 0 ? yes[at] : no[at]
          continue
        case 0x3d: // BPF_JMP | BPF_JGE | BPF_X
          at = a >>> 0 >= x >>> 0 ? yes[at] : no[at]
          continue
        case 0x45: // BPF_JMP | BPF_JSET | BPF_K
          at = (a & k) !== 0 ? yes[at] : no[at]
          continue
        case 0x4d: // BPF_JMP | BPF_JSET | BPF_X
          at = (a & x) !== 0 ? yes[at] : no[at]
          continue
        default: // BPF_RET | BPF_K
          return k !== 0
      }
      at++
    }
  }
}

const word = (bytes: Uint8Array, at: number): number =>
  (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]

/** BPF_RET | BPF_K; with 0 it rejects. */
const REJECT = 0x06

/** Whether a load is from so far behind that no packet reaches there. */
const isBeyond = (code: number, k: number): boolean =>
  k > 0x7fff_ffff && (decode(code).op === 'load' || code === LOADX_HEADER)
