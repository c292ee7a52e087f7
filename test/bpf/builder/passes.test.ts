// Each pass of the compiler on little functions, written down as text: `v2 = v1 add32 5`.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { allocate, liveOut } from '../../../src/bpf/builder/allocate.js'
import { checkUses } from '../../../src/bpf/builder/check.js'
import { optimize } from '../../../src/bpf/builder/compile.js'
import { flowOf } from '../../../src/bpf/builder/dominators.js'
import { emit } from '../../../src/bpf/builder/emit.js'
import type {
  AluKind,
  Block,
  Comparison,
  Fn,
  Inst,
  Operand,
  Terminator,
} from '../../../src/bpf/builder/ir.js'
import { block, edgesOf } from '../../../src/bpf/builder/ir.js'
import { lower } from '../../../src/bpf/builder/lower.js'
import type { MachineBlock, MachineFn, MachineInst } from '../../../src/bpf/builder/machine.js'
import { mergeBounds, removeDead, shareReturns, sink, straighten } from '../../../src/bpf/builder/shape.js'
import { shareBlocks } from '../../../src/bpf/builder/share.js'
import { simplify } from '../../../src/bpf/builder/simplify.js'
import { assemble } from '../../../src/bpf/assembler.js'
import { listing } from '../../../src/bpf/index.js'

const at = undefined
const versions = { context: 0, packet: 0, stack: 0, map: 0 }

/** A function of blocks by number; block 0 is the entry. Value 0 is the context, 1 to 3 are loads of unknown u32. */
class Sketch {
  readonly blocks: Block[]
  readonly fn: Fn

  constructor(count: number) {
    this.blocks = Array.from({ length: count }, (_, id) => block(id, versions))
    this.fn = { name: 'sketch', params: [0], blocks: this.blocks, nextValue: 100, stackBytes: 0 }
    for (let dst = 1; dst <= 3; dst++)
      this.add(0, {
        op: 'load',
        dst,
        size: 'u32',
        base: 0,
        offset: 8 + 4 * dst,
        space: 'context',
        version: 0,
        at,
      })
  }
  add(id: number, inst: Inst): this {
    this.blocks[id].insts.push(inst)
    return this
  }
  alu(id: number, dst: number, a: Operand, kind: AluKind, b: Operand, bits: 32 | 64 = 64): this {
    return this.add(id, { op: 'alu', dst, kind, bits, a, b, at })
  }
  store(id: number, value: Operand, size: 'u8' | 'u16' | 'u32' | 'u64' = 'u64'): this {
    return this.add(id, { op: 'stack', dst: 90 + id, offset: -8, at }).add(id, {
      op: 'store',
      size,
      base: 90 + id,
      offset: 0,
      value,
      space: 'stack',
      at,
    })
  }
  jump(id: number, to: number, ...args: Operand[]): this {
    return this.end(id, { op: 'jump', yes: { to: this.blocks[to], args }, at })
  }
  branch(id: number, a: Operand, comparison: Comparison, b: Operand, yes: number, no: number): this {
    return this.end(id, {
      op: 'branch',
      comparison,
      bits: 64,
      a,
      b,
      yes: { to: this.blocks[yes], args: [] },
      no: { to: this.blocks[no], args: [] },
      at,
    })
  }
  bounds(id: number, base: number, size: number, yes: number, no: number): this {
    return this.end(id, {
      op: 'bounds',
      base,
      size,
      end: 3,
      yes: { to: this.blocks[yes], args: [] },
      no: { to: this.blocks[no], args: [] },
      at,
    })
  }
  return(id: number, value: Operand): this {
    return this.end(id, { op: 'return', value, at })
  }
  end(id: number, end: Terminator): this {
    this.blocks[id].end = end
    return this
  }
}

const name = (operand: Operand): string => (typeof operand === 'bigint' ? `${operand}` : `v${operand}`)

/** What is left of a function, as text. Loads of the three unknowns are left out. */
function text(fn: Fn): string[] {
  return fn.blocks.flatMap(({ id, params, insts, end }) => [
    `${id}(${params.map(name).join()}):`,
    ...insts.flatMap((inst) => {
      if (inst.op === 'alu')
        return [`${name(inst.dst)} = ${name(inst.a)} ${inst.kind}${inst.bits} ${name(inst.b)}`]
      if (inst.op === 'store') return [`store ${inst.size} ${name(inst.value)}`]
      if (inst.op === 'swap') return [`${name(inst.dst)} = swap${inst.bits} ${name(inst.a)}`]
      if (inst.op === 'load' && inst.space !== 'context')
        return [`${name(inst.dst)} = load ${name(inst.base)}+${inst.offset}`]
      return []
    }),
    end!.op === 'return'
      ? `return ${name(end!.value)}`
      : `${end!.op === 'branch' ? `${name(end!.a)} ${end!.comparison} ${name(end!.b)}` : end!.op === 'bounds' ? `${name(end!.base)}+${end!.size}` : 'jump'} → ${edgesOf(
          end,
        )
          .map(({ to, args }) => `${to.id}(${args.map(name).join()})`)
          .join(' ')}`,
  ])
}

describe('simplify', () => {
  /** What `v10 = a kind b` comes to when it is returned. */
  const folded = (a: Operand, kind: AluKind, b: Operand, bits: 32 | 64 = 64): string[] => {
    const sketch = new Sketch(1).alu(0, 10, a, kind, b, bits).return(0, 10)
    simplify(sketch.fn)
    removeDead(sketch.fn)
    return text(sketch.fn).slice(1)
  }
  for (const [a, kind, b, bits, expected] of [
    [2n, 'add', 3n, 64, 'return 5'],
    [2n, 'sub', 3n, 32, 'return 4294967295'],
    [0x80000000n, 'arsh', 4n, 32, `return ${0xf8000000n}`],
    [7n, 'div', 0n, 64, 'return 0'],
    [7n, 'mod', 0n, 64, 'return 7'],
    [1, 'add', 0n, 64, 'return v1'],
    [0n, 'add', 1, 64, 'return v1'],
    [1, 'sub', 1, 64, 'return 0'],
    [1, 'xor', 1, 32, 'return 0'],
    [1, 'and', 0n, 64, 'return 0'],
    // A u32 has nothing above: cutting it changes nothing.
    [1, 'and', 0xffffffffn, 64, 'return v1'],
    [1, 'or', 0n, 32, 'return v1'],
    [1, 'rsh', 32n, 64, 'return 0'],
    [1, 'mul', 1n, 64, 'return v1'],
  ] as [Operand, AluKind, Operand, 32 | 64, string][]) {
    test(`${name(a)} ${kind}${bits} ${name(b)} is ${expected.slice(7)}`, () =>
      assert.deepEqual(folded(a, kind, b, bits), [expected]))
  }
  test('powers of two become shifts and masks', () => {
    assert.deepEqual(folded(1, 'mul', 8n), ['v10 = v1 lsh64 3', 'return v10'])
    assert.deepEqual(folded(1, 'div', 8n), ['v10 = v1 rsh64 3', 'return v10'])
    assert.deepEqual(folded(1, 'mod', 8n), ['v10 = v1 and64 7', 'return v10'])
  })
  test('operations with constants come together', () => {
    const sketch = new Sketch(1).alu(0, 10, 1, 'add', 5n).alu(0, 11, 10, 'sub', 2n).return(0, 11)
    simplify(sketch.fn)
    removeDead(sketch.fn)
    assert.deepEqual(text(sketch.fn).slice(1), ['v11 = v1 add64 3', 'return v11'])
  })
  test('nothing is computed twice where the first dominates', () => {
    const sketch = new Sketch(4).alu(0, 10, 1, 'add', 2).branch(0, 3, '==', 0n, 1, 2)
    sketch.alu(1, 11, 1, 'add', 2).store(1, 11).jump(1, 3)
    sketch.alu(2, 12, 1, 'mul', 2).store(2, 12).jump(2, 3)
    sketch.alu(3, 13, 1, 'mul', 2).return(3, 13)
    simplify(sketch.fn)
    removeDead(sketch.fn)
    const lines = text(sketch.fn)
    assert.ok(lines.includes('store u64 v10'), 'the sum of the entry is used in the branch')
    assert.ok(lines.includes('v13 = v1 mul64 v2'), 'the product of one branch is not used behind it')
  })
  test('loads are the same only under the same version of memory', () => {
    const sketch = new Sketch(1)
    for (const [dst, version] of [
      [10, 1],
      [11, 1],
      [12, 2],
    ]) {
      sketch
        .add(0, { op: 'load', dst, size: 'u32', base: 1, offset: 4, space: 'packet', version, at })
        .store(0, dst)
    }
    sketch.return(0, 0n)
    simplify(sketch.fn)
    removeDead(sketch.fn)
    assert.deepEqual(text(sketch.fn).slice(1, -1), [
      'v10 = load v1+4',
      'store u64 v10',
      'store u64 v10',
      'v12 = load v1+4',
      'store u64 v12',
    ])
  })
  test('what a store cuts off need not be cut before', () => {
    const sketch = new Sketch(1).alu(0, 10, 1, 'and', 0xffn).store(0, 10, 'u8').return(0, 0n)
    optimize(sketch.fn)
    assert.deepEqual(text(sketch.fn).slice(1), ['store u8 v1', 'return 0'])
  })
  test('a test that an earlier one decided is not made', () => {
    const sketch = new Sketch(5).branch(0, 1, '==', 7n, 1, 2).branch(1, 1, '!=', 7n, 3, 4)
    sketch.return(2, 2n).return(3, 3n).return(4, 4n)
    optimize(sketch.fn)
    assert.deepEqual(text(sketch.fn), ['0():', 'v1 == 7 → 4() 2()', '4():', 'return 4', '2():', 'return 2'])
  })
  test('a u32 is never above 2^32', () => {
    const sketch = new Sketch(3).branch(0, 1, '>', 0x1_0000_0000n, 1, 2).return(1, 1n).return(2, 2n)
    optimize(sketch.fn)
    assert.deepEqual(text(sketch.fn), ['0():', 'return 2'])
  })
  test('bytes known to be in the packet are not checked again', () => {
    const sketch = new Sketch(5).bounds(0, 1, 34, 1, 4).store(1, 2).branch(1, 2, '==', 1n, 2, 4)
    sketch.bounds(2, 1, 14, 3, 4).return(3, 3n).return(4, 4n)
    optimize(sketch.fn)
    assert.equal(text(sketch.fn).filter((line) => line.startsWith('v1+')).length, 1)
  })
})

describe('shape', () => {
  test('a check that a larger one follows is made for both', () => {
    const sketch = new Sketch(4).bounds(0, 1, 14, 1, 3).bounds(1, 1, 34, 2, 3).return(2, 2n).return(3, 3n)
    straighten(sketch.fn)
    assert.ok(mergeBounds(sketch.fn))
    optimize(sketch.fn)
    assert.deepEqual(text(sketch.fn), ['0():', 'v1+34 → 2() 3()', '2():', 'return 2', '3():', 'return 3'])
  })
  test('but not over something that happens in between', () => {
    const sketch = new Sketch(4)
      .bounds(0, 1, 14, 1, 3)
      .store(1, 2)
      .bounds(1, 1, 34, 2, 3)
      .return(2, 2n)
      .return(3, 3n)
    straighten(sketch.fn)
    assert.ok(!mergeBounds(sketch.fn))
  })
  test('what nothing needs goes, parameters of loops too', () => {
    const sketch = new Sketch(3).jump(0, 1, 0n, 5n)
    sketch.blocks[1].params.push(50, 51)
    sketch.alu(1, 10, 50, 'add', 1n).alu(1, 11, 51, 'add', 1n)
    sketch.end(1, {
      op: 'branch',
      comparison: '<',
      bits: 64,
      a: 10,
      b: 9n,
      yes: { to: sketch.blocks[1], args: [10, 11] },
      no: { to: sketch.blocks[2], args: [] },
      at,
    })
    sketch.return(2, 2n)
    removeDead(sketch.fn)
    assert.deepEqual(text(sketch.fn), [
      '0():',
      'jump → 1(0)',
      '1(v50):',
      'v10 = v50 add64 1',
      'v10 < 9 → 1(v10) 2()',
      '2():',
      'return 2',
    ])
  })
  test('equal blocks become one, detours go, lines become one block', () => {
    const sketch = new Sketch(6).branch(0, 1, '==', 1n, 1, 2)
    sketch.store(1, 2).jump(1, 3).store(2, 2).jump(2, 4).jump(3, 5).jump(4, 5).return(5, 7n)
    // The two blocks differ in the number of their stack address only.
    straighten(sketch.fn)
    assert.deepEqual(text(sketch.fn), ['0():', 'store u64 v2', 'return 7'])
  })
  test('equal ends are shared', () => {
    const sketch = new Sketch(3).branch(0, 1, '==', 1n, 1, 2).store(1, 2).return(1, 2n).return(2, 2n)
    shareReturns(sketch.fn)
    assert.deepEqual(text(sketch.fn).slice(2), ['1():', 'store u64 v2', 'jump → 2()', '2():', 'return 2'])
  })
  test('what one branch needs is computed there, but never in a loop', () => {
    const sketch = new Sketch(4)
      .alu(0, 10, 1, 'mul', 3n)
      .alu(0, 11, 2, 'mul', 3n)
      .branch(0, 3, '==', 0n, 1, 3)
    sketch.store(1, 10).jump(1, 2)
    sketch.store(2, 11).branch(2, 3, '>', 5n, 2, 3).return(3, 0n)
    sink(sketch.fn)
    const lines = text(sketch.fn)
    assert.ok(lines.indexOf('v10 = v1 mul64 3') > lines.indexOf('1():'))
    assert.ok(lines.indexOf('v11 = v2 mul64 3') < lines.indexOf('2():'))
  })
})

describe('dominators', () => {
  test('of a loop with a branch in it', () => {
    const sketch = new Sketch(6).jump(0, 1).branch(1, 1, '==', 0n, 2, 3).jump(2, 4).jump(3, 4)
    sketch.branch(4, 2, '==', 0n, 1, 5).return(5, 0n)
    const flow = flowOf(sketch.fn)
    const parents = sketch.blocks.slice(1).map((one) => flow.parent(one)!.id)
    assert.deepEqual(parents, [0, 1, 1, 1, 4])
    assert.deepEqual(
      sketch.blocks.map((one) => flow.depth(one)),
      [0, 1, 1, 1, 1, 0],
    )
  })
  test('a value used where only one path computes it is refused', () => {
    const sketch = new Sketch(4)
      .branch(0, 1, '==', 0n, 1, 2)
      .alu(1, 10, 1, 'add', 1n)
      .jump(1, 3)
      .jump(2, 3)
      .return(3, 10)
    assert.throws(() => checkUses(sketch.fn, flowOf(sketch.fn)), /not known here/)
  })
})

describe('registers', () => {
  const compiled = (sketch: Sketch, colours?: number): string[] => {
    const machine = lower(sketch.fn)
    allocate(machine, colours)
    return listing(assemble(emit(machine)).bytes)
      .trimEnd()
      .split('\n')
      .map((line) => line.trim().replace(/^\d+: \(..\) /, ''))
  }
  const machine = (insts: MachineInst[], registers: number): MachineFn => {
    const only: MachineBlock = { id: 0, insts, next: undefined, weight: 1 }
    return { name: 'machine', blocks: [only], registers, stackBytes: 0 }
  }

  test('what a value is copied from is its register, if that is free', () => {
    const sketch = new Sketch(1).alu(0, 10, 1, 'add', 2n).return(0, 10)
    removeDead(sketch.fn)
    assert.deepEqual(compiled(sketch), ['r0 = *(u32 *)(r1 +12)', 'r0 += 2', 'exit'])
  })
  test('values that outlive a call are kept from r0 to r5', () => {
    const sketch = new Sketch(1)
    sketch.add(0, { op: 'call', dst: 10, helper: 'get_prandom_u32', args: [], at })
    sketch.alu(0, 11, 10, 'add', 1).return(0, 11)
    removeDead(sketch.fn)
    assert.deepEqual(compiled(sketch), [
      'r6 = *(u32 *)(r1 +12)',
      'call bpf_get_prandom_u32#7',
      'r0 += r6',
      'exit',
    ])
  })
  test('a ring of parameters is passed on without losing one', () => {
    const sketch = new Sketch(3).jump(0, 1, 1, 2)
    sketch.blocks[1].params.push(50, 51)
    sketch.store(1, 50)
    sketch.end(1, {
      op: 'branch',
      comparison: '<',
      bits: 64,
      a: 50,
      b: 9n,
      yes: { to: sketch.blocks[1], args: [51, 50] },
      no: { to: sketch.blocks[2], args: [] },
      at,
    })
    sketch.return(2, 51)
    removeDead(sketch.fn)
    const moves = compiled(sketch).filter((line) => /^r\d = r\d$/.test(line))
    assert.equal(moves.length, 3, moves.join('; '))
  })
  test('live at the end of a block is what later blocks read first', () => {
    const last: MachineBlock = {
      id: 1,
      insts: [{ op: 'alu', kind: 'add', bits: 64, dst: 11, src: 12, at }],
      next: undefined,
      weight: 1,
    }
    const first: MachineBlock = { id: 0, insts: [], next: last, weight: 1 }
    const fn: MachineFn = { name: 'f', blocks: [first, last], registers: 13, stackBytes: 0 }
    assert.deepEqual([...liveOut(fn).get(first)!].sort(), [11, 12])
  })
  test('more values than registers go to the stack, and share places there', () => {
    const insts: MachineInst[] = []
    const group = (from: number): void => {
      for (let register = from; register < from + 15; register++)
        insts.push({ op: 'constant', dst: register, value: BigInt(register), at })
      for (let register = from + 1; register < from + 15; register++)
        insts.push({ op: 'alu', kind: 'add', bits: 64, dst: from, src: register, at })
      insts.push({ op: 'move', dst: 0, src: from, at })
    }
    group(11)
    group(26)
    insts.push({ op: 'exit', at })
    const fn = machine(insts, 41)
    allocate(fn)
    assert.ok(fn.stackBytes > 0 && fn.stackBytes <= 8 * 8, `${fn.stackBytes} bytes for two groups of 15`)
    const numbers = fn.blocks[0].insts.flatMap((inst) => ('dst' in inst ? [inst.dst] : []))
    assert.ok(numbers.every((register) => register < 10))
  })
  test('jumps that hand over the same share a block, but nobody is sent on a detour', () => {
    const block = (id: number, value: bigint, next: MachineBlock | undefined): MachineBlock => ({
      id,
      insts: [{ op: 'constant', dst: 5, value, at: { file: `${id}.ts`, line: id, column: 1 } }],
      next,
      weight: 1,
    })
    const end: MachineBlock = { id: 9, insts: [{ op: 'exit', at }], next: undefined, weight: 1 }
    const [jumped, again, other, entered] = [1, 2, 3, 4].map((id) => block(id, id === 3 ? 8n : 7n, end))
    const to = (target: MachineBlock): MachineInst => {
      return { op: 'branch', comparison: '==', bits: 64, a: 1, b: 0n, to: target, at }
    }
    const first: MachineBlock = {
      id: 0,
      insts: [to(jumped), to(again), to(other)],
      next: entered,
      weight: 1,
    }
    const fn: MachineFn = {
      name: 'f',
      blocks: [first, jumped, again, other, entered, end],
      registers: 11,
      stackBytes: 0,
    }
    shareBlocks(fn)
    assert.deepEqual(fn.blocks, [first, other, entered, end])
    const targets = first.insts.map((inst) => inst.op === 'branch' && inst.to)
    assert.deepEqual(targets, [entered, entered, other])
    // Two that are both run into stay two: one would have to jump.
    const second = block(5, 7n, end)
    const both: MachineFn = { ...fn, blocks: [...fn.blocks, second, { ...first, id: 6, next: second }] }
    shareBlocks(both)
    assert.equal(both.blocks.length, 6)
  })
  test('constants are written the shortest way', () => {
    const of = (value: bigint): string[] => compiled(new Sketch(1).return(0, value)).slice(-2, -1)
    for (const [value, expected] of [
      [5n, 'r0 = 5'],
      [0xffff_ffff_ffff_fffen, 'r0 = -2'],
      [0xffff_fffen, 'w0 = -2'],
      [0x1_0000_0000n, 'r0 = 0x100000000'],
    ] as const) {
      assert.deepEqual(of(value), [expected])
    }
  })
})
