// What a traced program means, instruction by instruction as it was written: the judge of the compiler's output.
import { KINDS } from '../../../src/bpf/builder/kinds.js'
import {
  type Block,
  type Edge,
  type Fn,
  type Operand,
  compare,
  evaluate,
  swapBytes,
} from '../../../src/bpf/builder/ir.js'

/** Where the fake machine has things. */
const PACKET = 0x10_0000n
const STACK_TOP = 0x20_0000n
const CONTEXT = 0x30_0000n

export interface Outcome {
  result: bigint
  packet: Uint8Array
}

/** Runs the first function on a packet; others are those it may call. */
export function interpret(functions: readonly Fn[], packet: Uint8Array): Outcome {
  const bytes = packet.slice()
  const result = run(functions[0], functions, [CONTEXT], bytes, { steps: 0 })
  return { result: result & 0xffff_ffffn, packet: bytes }
}

function run(
  fn: Fn,
  functions: readonly Fn[],
  args: bigint[],
  packet: Uint8Array,
  budget: { steps: number },
): bigint {
  const values = new Map<number, bigint>(fn.params.map((param, index) => [param, args[index]]))
  const stack = new Uint8Array(512)
  const get = (operand: Operand): bigint => (typeof operand === 'bigint' ? operand : values.get(operand)!)
  const locate = (address: bigint, size: number): [Uint8Array, number] => {
    const inPacket = Number(address - PACKET)
    if (inPacket >= 0 && inPacket + size <= packet.length) return [packet, inPacket]
    const inStack = Number(address - STACK_TOP) + 512
    if (inStack >= 0 && inStack + size <= 512) return [stack, inStack]
    throw new Error(`access to ${address.toString(16)}`)
  }
  const read = (address: bigint, size: number): bigint => {
    if (address >= CONTEXT)
      return [PACKET, PACKET + BigInt(packet.length), PACKET][Number(address - CONTEXT) / 4] ?? 0n
    const [bytes, at] = locate(address, size)
    let value = 0n
    for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[at + i])
    return value
  }
  const write = (address: bigint, size: number, value: bigint): void => {
    const [bytes, at] = locate(address, size)
    for (let i = 0; i < size; i++) bytes[at + i] = Number((value >> BigInt(8 * i)) & 0xffn)
  }
  const follow = ({ to, args: passed }: Edge): Block => {
    const results = passed.map(get)
    to.params.forEach((param, index) => values.set(param, results[index]))
    return to
  }
  for (let block = fn.blocks[0]; ;) {
    for (const inst of block.insts) {
      if (++budget.steps > 100_000) throw new Error('endless')
      switch (inst.op) {
        case 'alu':
          values.set(inst.dst, evaluate(inst.kind, inst.bits, get(inst.a), get(inst.b)))
          break
        case 'swap':
          values.set(inst.dst, swapBytes(get(inst.a), inst.bits))
          break
        case 'load':
          values.set(inst.dst, read(get(inst.base) + BigInt(inst.offset), KINDS[inst.size].bits / 8))
          break
        case 'store':
          write(get(inst.base) + BigInt(inst.offset), KINDS[inst.size].bits / 8, get(inst.value))
          break
        case 'stack':
          values.set(inst.dst, STACK_TOP + BigInt(inst.offset))
          break
        case 'invoke': {
          const callee = functions.find(({ name }) => name === inst.callee)!
          const result = run(callee, functions, inst.args.map(get), packet, budget)
          if (inst.dst !== undefined) values.set(inst.dst, result)
          break
        }
        default:
          throw new Error(`${inst.op} is not interpreted`)
      }
    }
    const end = block.end!
    if (end.op === 'return') return get(end.value)
    if (end.op === 'jump') block = follow(end.yes)
    else {
      const holds =
        end.op === 'branch'
          ? compare(end.comparison, end.bits, get(end.a), get(end.b))
          : get(end.base) + BigInt(end.size) <= get(end.end)
      block = follow(holds ? end.yes : end.no)
    }
  }
}
