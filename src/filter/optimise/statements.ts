// Inside one block: values are numbered, what is computed twice or for nothing goes, constants are folded.
import {
  BPF_ABS,
  BPF_ADD,
  BPF_ALU,
  BPF_AND,
  BPF_DIV,
  BPF_IMM,
  BPF_IND,
  BPF_K,
  BPF_LD,
  BPF_LDX,
  BPF_LEN,
  BPF_LSH,
  BPF_MEM,
  BPF_MISC,
  BPF_MOD,
  BPF_MSH,
  BPF_MUL,
  BPF_NEG,
  BPF_OR,
  BPF_RET,
  BPF_RSH,
  BPF_ST,
  BPF_STX,
  BPF_SUB,
  BPF_TXA,
  BPF_XOR,
  type Statement,
  classOf,
  modeOf,
  operationOf,
  sizeOf,
  sourceOf,
} from '../graph.js'
import { A, ATOMS, A_AND_X, GONE, type Node, X, isIn, usedBy, writtenBy } from './flow.js'
import { rewriteNeighbours } from './neighbours.js'
import { type Progress, noteRewrite } from './progress.js'
import { ConstantFault, type Values, fold } from './values.js'

/** A value that may be any. */
const UNKNOWN = 0

/** Rewrites the statements of blocks. With `isLate` it also removes what has been computed before. */
export class StatementPass {
  readonly #values: Values
  readonly #isLate: boolean
  readonly #progress: Progress
  /** The last statement that wrote each atom. */
  readonly #written: (Statement | undefined)[] = Array<undefined>(ATOMS).fill(undefined)

  constructor(values: Values, isLate: boolean, progress: Progress) {
    this.#values = values
    this.#isLate = isLate
    this.#progress = progress
  }

  /** Works on a block whose predecessors are done. */
  run(node: Node): void {
    findCommonValues(node)
    const a = node.values[A]
    const x = node.values[X]
    for (const statement of node.statements) this.#statement(statement, node.values)
    const keepsRegisters = a !== UNKNOWN && node.values[A] === a && x !== UNKNOWN && node.values[X] === x
    if (this.#isLate && ((node.usedAfter === 0 && keepsRegisters) || classOf(node.last.code) === BPF_RET)) {
      if (node.statements.length > 0) {
        node.statements = []
        noteRewrite(this.#progress)
      }
    } else {
      rewriteNeighbours(node, this.#values, this.#progress)
      this.#dropUnused(node)
    }
    const { code, k } = node.last
    node.operand = sourceOf(code) === BPF_K ? this.#values.constant(k) : node.values[X]
  }

  /** Notes a new value of an atom; the statement goes if the atom has it already. */
  #set(statement: Statement, values: Int32Array, atom: number, value: number): void {
    if (this.#isLate && value !== UNKNOWN && values[atom] === value) statement.code = GONE
    else values[atom] = value
  }

  #statement(s: Statement, values: Int32Array): void {
    const numbers = this.#values
    if (s.code === GONE) return
    switch (classOf(s.code)) {
      case BPF_LD:
      case BPF_LDX:
        this.#load(s, values)
        break
      case BPF_ALU:
        if (operationOf(s.code) === BPF_NEG) {
          const known = this.#isLate ? numbers.asConstant(values[A]) : undefined
          if (known !== undefined) {
            s.code = BPF_LD | BPF_IMM
            s.k = -known >>> 0
            values[A] = numbers.constant(s.k)
          } else values[A] = numbers.of(s.code, values[A])
        } else if (sourceOf(s.code) === BPF_K) this.#computeWithConstant(s, values)
        else this.#computeWithX(s, values)
        break
      case BPF_MISC:
        if (operationOf(s.code) === BPF_TXA) this.#set(s, values, A, values[X])
        else this.#set(s, values, X, values[A])
        break
      case BPF_ST:
        this.#set(s, values, s.k, values[A])
        break
      case BPF_STX:
        this.#set(s, values, s.k, values[X])
        break
    }
  }

  #load(s: Statement, values: Int32Array): void {
    const numbers = this.#values
    const atom = classOf(s.code) === BPF_LD ? A : X
    switch (modeOf(s.code)) {
      case BPF_ABS:
        this.#set(s, values, atom, numbers.of(s.code, s.k))
        break
      case BPF_MSH:
        this.#set(s, values, atom, numbers.of(s.code, s.k))
        break
      case BPF_IND: {
        const known = this.#isLate ? numbers.asConstant(values[X]) : undefined
        if (known === undefined) {
          this.#set(s, values, atom, numbers.of(s.code, s.k, values[X]))
          break
        }
        s.code = BPF_LD | BPF_ABS | sizeOf(s.code)
        s.k = (s.k + known) >>> 0
        noteRewrite(this.#progress)
        this.#set(s, values, atom, numbers.of(s.code, s.k))
        break
      }
      case BPF_LEN:
        this.#set(s, values, atom, numbers.of(s.code, 0))
        break
      case BPF_MEM: {
        const value = values[s.k]
        const known = this.#isLate ? numbers.asConstant(value) : undefined
        if (known !== undefined) {
          s.code = classOf(s.code) | BPF_IMM
          s.k = known
          noteRewrite(this.#progress)
        }
        this.#set(s, values, atom, value)
        break
      }
      default:
        this.#set(s, values, atom, numbers.constant(s.k))
    }
  }

  #computeWithConstant(s: Statement, values: Int32Array): void {
    const numbers = this.#values
    const operation = operationOf(s.code)
    if (this.#isLate) {
      if (s.k === 0) {
        // `sub #0` stays: it may be needed to mend what comes later.
        if ([BPF_ADD, BPF_LSH, BPF_RSH, BPF_OR, BPF_XOR].includes(operation)) {
          s.code = GONE
          return
        }
        if (operation === BPF_MUL || operation === BPF_AND) {
          s.code = BPF_LD | BPF_IMM
          values[A] = numbers.constant(s.k)
          return
        }
        if (operation === BPF_DIV) throw new ConstantFault('division by zero')
        if (operation === BPF_MOD) throw new ConstantFault('modulus by zero')
      }
      const known = numbers.asConstant(values[A])
      if (known !== undefined) {
        this.#fold(s, known, s.k)
        values[A] = numbers.constant(s.k)
        return
      }
    }
    values[A] = numbers.of(s.code, values[A], numbers.constant(s.k))
  }

  #computeWithX(s: Statement, values: Int32Array): void {
    const numbers = this.#values
    const operation = operationOf(s.code)
    const a = this.#isLate ? numbers.asConstant(values[A]) : undefined
    const x = this.#isLate ? numbers.asConstant(values[X]) : undefined
    if (x !== undefined) {
      if (a !== undefined) {
        this.#fold(s, a, x)
        values[A] = numbers.constant(s.k)
        return
      }
      s.code = BPF_ALU | BPF_K | operation
      s.k = x
      if ((operation === BPF_LSH || operation === BPF_RSH) && x > 31) {
        throw new ConstantFault('shift by more than 31 bits')
      }
      noteRewrite(this.#progress)
      values[A] = numbers.of(s.code, values[A], numbers.constant(x))
      return
    }
    if (a === 0) {
      if (operation === BPF_ADD || operation === BPF_OR || operation === BPF_XOR) {
        s.code = BPF_MISC | BPF_TXA
        this.#set(s, values, A, values[X])
        return
      }
      if (operation !== BPF_SUB) {
        s.code = BPF_LD | BPF_IMM
        s.k = 0
        this.#set(s, values, A, numbers.constant(0))
        return
      }
    }
    values[A] = numbers.of(s.code, values[A], values[X])
  }

  #fold(s: Statement, a: number, b: number): void {
    s.k = fold(operationOf(s.code), a, b)
    s.code = BPF_LD | BPF_IMM
    noteRewrite(this.#progress)
  }

  /** Takes out what is written and never read. */
  #dropUnused(node: Node): void {
    const written = this.#written.fill(undefined)
    for (const statement of node.statements) this.#dropOverwritten(statement, written)
    this.#dropOverwritten(node.last, written)
    for (let atom = 0; atom < ATOMS; atom++) {
      const statement = written[atom]
      if (statement && !isIn(node.usedAfter, atom)) this.#drop(statement)
    }
  }

  #dropOverwritten(statement: Statement, written: (Statement | undefined)[]): void {
    const used = usedBy(statement)
    if (used === A_AND_X) {
      written[A] = undefined
      written[X] = undefined
    } else if (used !== undefined) written[used] = undefined
    const atom = writtenBy(statement)
    if (atom === undefined) return
    const before = written[atom]
    if (before) this.#drop(before)
    written[atom] = statement
  }

  #drop(statement: Statement): void {
    statement.code = GONE
    noteRewrite(this.#progress)
  }
}

/** The values that all predecessors agree on. */
function findCommonValues({ incoming, values }: Node): void {
  if (incoming.length === 0) {
    values.fill(UNKNOWN)
    return
  }
  values.set(incoming[0].from.values)
  for (let i = 1; i < incoming.length; i++) {
    const others = incoming[i].from.values
    for (let atom = 0; atom < ATOMS; atom++) if (values[atom] !== others[atom]) values[atom] = UNKNOWN
  }
}
