// What each instruction of a filter still needs: of A, X and the cells.
import {
  BPF_MEMWORDS,
  JUMP,
  LOADX_CELL,
  LOADX_CONSTANT,
  LOADX_HEADER,
  LOAD_CELL,
  NEGATE,
  RETURN,
  STORE,
  STOREX,
  TAX,
  TXA,
  decode,
} from './classic.js'
import type { Instruction } from './linear.js'

/** The numbers of the two registers; the cells are 0 to 15. */
export const A = BPF_MEMWORDS
export const X = BPF_MEMWORDS + 1

/** For each instruction the bits of what is read from there on before it is written. The program has no loops. */
export function lifetimes(program: readonly Instruction[]): Int32Array {
  const live = new Int32Array(program.length)
  for (let index = program.length - 1; index >= 0; index--) {
    const { code, k, yes, no } = program[index]
    const { reads, writes } = effects(code, k)
    const after = code === RETURN ? 0 : yes < 0 ? live[index + 1] : live[yes] | (no < 0 ? 0 : live[no])
    live[index] = reads | (after & ~writes)
  }
  return live
}

const bit = (atom: number): number => 1 << atom

function effects(code: number, k: number): { reads: number; writes: number } {
  const decoded = decode(code)
  switch (decoded.op) {
    case 'load':
      return { reads: decoded.indirect ? bit(X) : 0, writes: bit(A) }
    case 'alu':
      return { reads: bit(A) | (decoded.x ? bit(X) : 0), writes: bit(A) }
    case 'jump':
      return { reads: bit(A) | (decoded.x ? bit(X) : 0), writes: 0 }
    case 'other':
      break
  }
  switch (code) {
    case JUMP:
    case RETURN:
      return { reads: 0, writes: 0 }
    case LOADX_HEADER:
    case LOADX_CONSTANT:
      return { reads: 0, writes: bit(X) }
    case LOAD_CELL:
      return { reads: bit(k), writes: bit(A) }
    case LOADX_CELL:
      return { reads: bit(k), writes: bit(X) }
    case STORE:
      return { reads: bit(A), writes: bit(k) }
    case STOREX:
      return { reads: bit(X), writes: bit(k) }
    case TAX:
      return { reads: bit(A), writes: bit(X) }
    case TXA:
      return { reads: bit(X), writes: bit(A) }
    case NEGATE:
      return { reads: bit(A), writes: bit(A) }
    default:
      // A constant or the length.
      return { reads: 0, writes: bit(A) }
  }
}
