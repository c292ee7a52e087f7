// One block for all jumps that hand over the same: only when registers are numbered does it show that they do.
import type { MachineBlock, MachineFn, MachineInst } from './machine.js'

/** Lets jumps that lead to equal blocks lead to one of them, where that makes no path longer: what others run into stays. */
export function shareBlocks(fn: MachineFn): void {
  for (;;) {
    const entered = new Set<MachineBlock | undefined>([fn.blocks[0], ...fn.blocks.map(({ next }) => next)])
    const kept = new Map<string, MachineBlock>()
    const twin = new Map<MachineBlock, MachineBlock>()
    // What is run into first, so that the others can be it.
    for (const block of [...fn.blocks].sort((a, b) => Number(entered.has(b)) - Number(entered.has(a)))) {
      const key = contents(block)
      const other = kept.get(key)
      if (other === undefined) kept.set(key, block)
      else if (!entered.has(block)) twin.set(block, other)
    }
    if (twin.size === 0) return
    fn.blocks = fn.blocks.filter((block) => !twin.has(block))
    for (const { insts } of fn.blocks) {
      for (const inst of insts) if (inst.op === 'branch') inst.to = twin.get(inst.to) ?? inst.to
    }
  }
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
