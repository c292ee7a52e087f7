// Inside one block: values are numbered, what is computed twice or for nothing goes, constants are folded.
import {
  BPF_ABS,
  BPF_ADD,
  BPF_ALU,
  BPF_AND,
  BPF_B,
  BPF_DIV,
  BPF_IMM,
  BPF_IND,
  BPF_JEQ,
  BPF_JGE,
  BPF_JGT,
  BPF_JMP,
  BPF_JSET,
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
  BPF_TAX,
  BPF_TXA,
  BPF_X,
  BPF_XOR,
  type Statement,
  classOf,
  modeOf,
  operationOf,
  sizeOf,
  sourceOf,
} from '../graph.js'
import { A, ATOMS, A_AND_X, GONE, type Node, X, isIn, usedBy, writtenBy } from './flow.js'

/** A constant that no packet can be computed with. */
export class ConstantFault extends Error {}

/** A value that may be any. */
const UNKNOWN = 0

/** What a pass has done so far. */
export interface Progress {
  changed: boolean
  /** Something else than ways led elsewhere, which alone can go round in circles. */
  rewrote: boolean
}

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

  #rewrote(): void {
    this.#progress.changed = true
    this.#progress.rewrote = true
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
        this.#rewrote()
      }
    } else {
      this.#rewriteNeighbours(node)
      this.#dropUnused(node)
    }
    const { code, k } = node.last
    node.operand = sourceOf(code) === BPF_K ? this.#values.constant(k) : node.values[X]
    node.yes.code = code
    node.no.code = code
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
        this.#rewrote()
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
          this.#rewrote()
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
      this.#rewrote()
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
    this.#rewrote()
  }

  #rewriteNeighbours(node: Node): void {
    const { statements, last: test } = node
    if (statements.length === 0) return
    let last = statements[0]
    for (let at = presentFrom(statements, 0); ;) {
      const next = presentFrom(statements, at + 1)
      if (next >= statements.length) break
      last = statements[next]
      this.#rewritePair(node, at, next)
      at = presentFrom(statements, next)
    }
    if (test.code === (BPF_JMP | BPF_JEQ | BPF_K) && !isIn(node.usedAfter, A)) this.#rewriteTest(node, last)
    if (test.code === (BPF_JMP | BPF_JSET | BPF_K)) {
      if (test.k === 0) node.yes.to = node.no.to
      if (test.k === 0xffffffff) node.no.to = node.yes.to
    }
    const x = this.#values.asConstant(node.values[X])
    if (x !== undefined && sourceOf(test.code) === BPF_X) {
      test.code &= ~BPF_X
      test.k = x
    }
    const a = this.#values.asConstant(node.values[A])
    if (a !== undefined && sourceOf(test.code) === BPF_K) {
      if (node.no.to !== node.yes.to) this.#rewrote()
      if (holds(operationOf(test.code), a, test.k)) node.no.to = node.yes.to
      else node.yes.to = node.no.to
    }
  }

  #rewritePair(node: Node, at: number, after: number): void {
    const { statements } = node
    const s = statements[at]
    const next = statements[after]
    if (s.code === BPF_ST && next.code === (BPF_LDX | BPF_MEM) && s.k === next.k) {
      next.code = BPF_MISC | BPF_TAX
      this.#rewrote()
    }
    if (s.code === (BPF_LD | BPF_IMM) && next.code === (BPF_MISC | BPF_TAX)) {
      s.code = BPF_LDX | BPF_IMM
      next.code = BPF_MISC | BPF_TXA
      this.#rewrote()
    }
    if (s.code !== (BPF_LD | BPF_IMM) || isIn(node.usedAfter, X)) return
    // `ld #2; ldx 4*([14]&0xf); add x; tax; ldb [x + 0]` is `ldx 4*([14]&0xf); ldb [x + 2]`.
    const isHeaderLength = next.code === (BPF_LDX | BPF_MSH | BPF_B)
    const addAt = isHeaderLength ? presentFrom(statements, after + 1) : after
    const taxAt = presentFrom(statements, addAt + 1)
    const loadAt = presentFrom(statements, taxAt + 1)
    if (loadAt >= statements.length) return
    const [add, tax, load] = [statements[addAt], statements[taxAt], statements[loadAt]]
    if (add.code !== (BPF_ALU | BPF_ADD | BPF_X) || tax.code !== (BPF_MISC | BPF_TAX)) return
    if (classOf(load.code) !== BPF_LD || modeOf(load.code) !== BPF_IND) return
    load.k = (load.k + s.k) >>> 0
    s.code = GONE
    add.code = GONE
    tax.code = GONE
    this.#rewrote()
  }

  /** The last computation before `jeq` may become part of it. */
  #rewriteTest(node: Node, last: Statement): void {
    const test = node.last
    if (last.code === (BPF_ALU | BPF_SUB | BPF_X)) {
      const x = this.#values.asConstant(node.values[X])
      if (x !== undefined) test.k = (test.k + x) >>> 0
      else if (test.k === 0) test.code = BPF_JMP | BPF_JEQ | BPF_X
      else return
    } else if (last.code === (BPF_ALU | BPF_SUB | BPF_K)) {
      test.k = (test.k + last.k) >>> 0
    } else if (last.code === (BPF_ALU | BPF_AND | BPF_K) && test.k === 0) {
      test.k = last.k
      test.code = BPF_JMP | BPF_JSET | BPF_K
      const { to } = node.yes
      node.yes.to = node.no.to
      node.no.to = to
    } else return
    last.code = GONE
    this.#rewrote()
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
    this.#rewrote()
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

/** Where the next statement is that has not been taken out. */
function presentFrom(statements: readonly Statement[], at: number): number {
  while (at < statements.length && statements[at].code === GONE) at++
  return at
}

function holds(operation: number, a: number, k: number): boolean {
  if (operation === BPF_JEQ) return a === k
  if (operation === BPF_JGT) return a > k
  return operation === BPF_JGE ? a >= k : (a & k) !== 0
}

function fold(operation: number, a: number, b: number): number {
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
