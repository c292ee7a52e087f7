// Numbers for values, and what becomes of constants.
import {
  BPF_ADD,
  BPF_AND,
  BPF_DIV,
  BPF_IMM,
  BPF_LD,
  BPF_LSH,
  BPF_MOD,
  BPF_MUL,
  BPF_OR,
  BPF_RSH,
  BPF_SUB,
} from '../graph.js'

/** A constant that no packet can be computed with. */
export class ConstantFault extends Error {}

/** Numbers for values: the same number is the same value, whatever the packet. */
export class Values {
  readonly #numbers = new Map<string, number>()
  readonly #constants = new Map<number, number>()

  /** The number of what an operation yields on other values or constants. */
  of(code: number, first: number, second = 0): number {
    const key = `${code} ${first} ${second}`
    const had = this.#numbers.get(key)
    if (had !== undefined) return had
    const number = this.#numbers.size + 1
    this.#numbers.set(key, number)
    return number
  }

  constant(k: number): number {
    const number = this.of(BPF_LD | BPF_IMM, k)
    this.#constants.set(number, k)
    return number
  }

  /** The constant that a value is, if it is one. */
  asConstant(number: number): number | undefined {
    return this.#constants.get(number)
  }
}

/** What an operation gives on constants. Throws `ConstantFault` for a division by zero. */
export function fold(operation: number, a: number, b: number): number {
  switch (operation) {
    case BPF_ADD:
      return (a + b) >>> 0
    case BPF_SUB:
      return (a - b) >>> 0
    case BPF_MUL:
      return Math.imul(a, b) >>> 0
    case BPF_DIV:
      if (b === 0) throw new ConstantFault('division by zero')
      return Math.floor(a / b)
    case BPF_MOD:
      if (b === 0) throw new ConstantFault('modulus by zero')
      return a % b
    case BPF_AND:
      return (a & b) >>> 0
    case BPF_OR:
      return (a | b) >>> 0
    case BPF_LSH:
      return b < 32 ? (a << b) >>> 0 : 0
    case BPF_RSH:
      return b < 32 ? a >>> b : 0
    default:
      return (a ^ b) >>> 0
  }
}
