// One block for all jumps that hand over the same: only when registers are numbered does it show that they do.
import type { MachineBlock, MachineFn, MachineInst } from './machine.js'

/** Lets jumps that lead to equal blocks lead to one of them, where that makes no path longer: what others run into stays. */
export function shareBlocks(fn: MachineFn): void {
  for (;;) {
    const entered = new Set<MachineBlock | undefined>([fn.blocks[0]])
    for (const { next } of fn.blocks) entered.add(next)
    const twin = new Map<MachineBlock, MachineBlock>()
    for (const group of alike(fn.blocks)) {
      if (group.every((block) => entered.has(block))) continue
      const kept = new Map<string, MachineBlock>()
      // What is run into first, so that the others can be it.
      for (const block of [...group].sort((a, b) => Number(entered.has(b)) - Number(entered.has(a)))) {
        const key = contents(block)
        const other = kept.get(key)
        if (other === undefined) kept.set(key, block)
        else if (!entered.has(block)) twin.set(block, other)
      }
    }
    if (twin.size === 0) return
    fn.blocks = fn.blocks.filter((block) => !twin.has(block))
    for (const { insts } of fn.blocks) {
      for (const inst of insts) if (inst.op === 'branch') inst.to = twin.get(inst.to) ?? inst.to
    }
  }
}

/** Blocks that are as long and go to the same place: only those need be spelt out. */
function alike(blocks: readonly MachineBlock[]): MachineBlock[][] {
  const groups = new Map<number, MachineBlock[]>()
  for (const block of blocks) {
    // Ids of blocks are numbers from 0.
    const key = block.insts.length * 0x1_0000_0000 + (block.next ? block.next.id + 1 : 0)
    const group = groups.get(key)
    if (group) group.push(block)
    else groups.set(key, [block])
  }
  return [...groups.values()].filter((group) => group.length > 1)
}

/** What a block does and where it goes, in words. Where its instructions were written does not matter. */
function contents({ insts, next }: MachineBlock): string {
  return `${insts.map(spelt).join(';')}>${next?.id}`
}

function spelt(inst: MachineInst): string {
  return Object.entries(inst)
    .map(([name, value]) => (name === 'at' ? '' : word(value)))
    .join()
}

function word(value: unknown): string {
  if (typeof value === 'bigint') return `#${value}`
  if (typeof value !== 'object' || value === null) return String(value)
  // A block is told by its number, a map that is there by its descriptor.
  if ('insts' in value) return `block ${(value as MachineBlock).id}`
  if ('fd' in value) return `fd ${(value as { fd: number }).fd}`
  return JSON.stringify(value)
}
