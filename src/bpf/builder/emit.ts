// From allocated instructions to the assembler's: blocks in order, jumps only where the next block is not the one wanted.
import { opposite } from './ir.js'
import * as asm from '../asm.js'
import type { Code, Condition, Label, Operation } from '../asm.js'
import { type MachineBlock, type MachineFn, type MachineInst, successorsOf } from './machine.js'

const registers = [asm.r0, asm.r1, asm.r2, asm.r3, asm.r4, asm.r5, asm.r6, asm.r7, asm.r8, asm.r9, asm.r10]

const arithmetic = {
  add: [asm.add32, asm.add],
  sub: [asm.sub32, asm.sub],
  mul: [asm.mul32, asm.mul],
  div: [asm.div32, asm.div],
  mod: [asm.mod32, asm.mod],
  or: [asm.or32, asm.or],
  and: [asm.and32, asm.and],
  xor: [asm.xor32, asm.xor],
  lsh: [asm.lsh32, asm.lsh],
  rsh: [asm.rsh32, asm.rsh],
  arsh: [asm.arsh32, asm.arsh],
} as const

/** Writes a function down. Its first label is its name. */
export function emit(fn: MachineFn): Code {
  const order = layOut(fn)
  const wanted = new Set<MachineBlock>()
  order.forEach((block, index) => {
    for (const next of successorsOf(block))
      if (next !== block.next || next !== order[index + 1]) wanted.add(next)
  })
  const label = (block: MachineBlock): string => `${fn.name}.${block.id}`
  const code: (Operation | Label)[] = [{ label: fn.name }]
  order.forEach((block, index) => {
    if (wanted.has(block)) code.push({ label: label(block) })
    const following = order[index + 1]
    const { insts, next } = turned(block, following)
    for (const inst of insts) {
      const operation = operationOf(inst, label)
      code.push(inst.at ? { ...operation, source: inst.at } : operation)
    }
    if (next && next !== following) {
      const jump = asm.jump(label(next))
      const at = insts.at(-1)?.at
      code.push(at ? { ...jump, source: at } : jump)
    }
  })
  return code
}

/** The block, with its last branch the other way round where that saves a jump. */
function turned(
  block: MachineBlock,
  following: MachineBlock | undefined,
): { insts: MachineInst[]; next: MachineBlock | undefined } {
  const { insts, next } = block
  const last = insts.at(-1)
  if (
    last?.op !== 'branch' ||
    next === following ||
    last.to !== following ||
    last.comparison === '&' ||
    !next
  ) {
    return { insts, next }
  }
  return {
    insts: [...insts.slice(0, -1), { ...last, comparison: opposite(last.comparison), to: next }],
    next: following,
  }
}

/** Puts each block behind one that goes on with it, as far as that is possible. */
function layOut(fn: MachineFn): MachineBlock[] {
  const placed = new Set<MachineBlock>()
  const order: MachineBlock[] = []
  for (const start of fn.blocks) {
    for (let block: MachineBlock | undefined = start; block && !placed.has(block); block = block.next) {
      placed.add(block)
      order.push(block)
    }
  }
  return order
}

function operationOf(inst: MachineInst, label: (block: MachineBlock) => string): Operation {
  const operand = (value: number | bigint): asm.Register | number =>
    typeof value === 'bigint' ? immediate(value) : registers[value]
  switch (inst.op) {
    case 'move':
      return asm.mov(registers[inst.dst], registers[inst.src])
    case 'cut':
      return asm.mov32(registers[inst.dst], registers[inst.dst])
    case 'constant':
      return constant(inst.dst, inst.value)
    case 'alu':
      return arithmetic[inst.kind][inst.bits === 64 ? 1 : 0](registers[inst.dst], operand(inst.src))
    case 'negate':
      return inst.bits === 64 ? asm.neg(registers[inst.dst]) : asm.neg32(registers[inst.dst])
    case 'swap':
      return asm.be(registers[inst.dst], inst.bits)
    case 'load':
      return asm.load(inst.size, registers[inst.dst], registers[inst.base], inst.offset)
    case 'store':
      return asm.store(inst.size, registers[inst.base], inst.offset, operand(inst.src))
    case 'atomic':
      return asm.atomic(inst.kind, inst.size, registers[inst.base], inst.offset, registers[inst.src])
    case 'map':
      return asm.loadMap(registers[inst.dst], inst.map)
    case 'call':
      return 'helper' in inst.target ? asm.call(inst.target.helper) : asm.callLocal(inst.target.callee)
    case 'branch': {
      const jump = inst.bits === 64 ? asm.jumpIf : asm.jumpIf32
      return jump(registers[inst.a], inst.comparison as Condition, operand(inst.b), label(inst.to))
    }
    case 'exit':
      return asm.exit()
  }
}

/** The shortest instruction that leaves a constant in a register. */
function constant(dst: number, value: bigint): Operation {
  const wide = BigInt.asIntN(64, value)
  if (wide === BigInt.asIntN(32, wide)) return asm.mov(registers[dst], Number(wide))
  if (value >= 0n && value <= 0xffff_ffffn) return asm.mov32(registers[dst], Number(BigInt.asIntN(32, value)))
  return asm.load64(registers[dst], wide)
}

const immediate = (value: bigint): number => Number(BigInt.asIntN(32, value))
