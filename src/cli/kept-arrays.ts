// Keeps the program arrays of what a command leaves attached: the kernel empties one when its last descriptor and pin are gone
// (bpf_fd_array_map_clear in kernel/bpf/arraymap.c), and tail calls then fall through in silence, used by a program or not.
import { readdirSync, rmdirSync } from 'node:fs'
import { BpfMap, programInfoById, unpin } from '../bpf/index.js'
import { KernelError } from '../kernel/index.js'
import type { LoadedProgram } from './choose-program.js'
import { type Pins, pinFolderOf, pinName, removeEmpty } from './pins.js'

const OF_PROGRAM = /^program-(\d+)$/

/** Pins a program's arrays beside the pinned link of its interface, until `releaseArrays`. Nothing for a program without. */
export function keepArrays(pins: Pins, name: string, { program, maps }: LoadedProgram): void {
  const arrays = [...maps].filter(([, { type }]) => type === 'prog_array')
  if (arrays.length === 0) return
  // By the program's id: the old one's arrays must last until it is replaced, and other namespaces have interfaces of that name too.
  const folder = `${pinFolderOf(name)}/program-${program.id}`
  pins.folder(
    folder,
    'Tail calls need their program array pinned: use `nsenter --net=…` in the place of `ip netns exec`.',
  )
  for (const [map, it] of arrays) pins.pin(it, `${folder}/${pinName(map)}`)
}

/** Takes the pins of programs away that are off the interface now, and those of programs that are gone altogether. */
export function releaseArrays(name: string, off: readonly { readonly id: number }[]): void {
  const stale = entriesOf(pinFolderOf(name)).filter((entry) => {
    const id = Number(OF_PROGRAM.exec(entry)?.[1])
    return !Number.isNaN(id) && (off.some((program) => program.id === id) || isGone(id))
  })
  if (stale.length > 0) waitForPrograms()
  for (const entry of stale) {
    const folder = `${pinFolderOf(name)}/${entry}`
    for (const map of entriesOf(folder)) unpin(`${folder}/${map}`)
    rmdirSync(folder)
  }
  removeEmpty(pinFolderOf(name))
}

/**
 * Waits until no program runs that began before: one that was just replaced may still be at work on a packet, whose tail call must find
 * its array filled. To change a map of maps does that (maybe_wait_bpf_programs in kernel/bpf/syscall.c).
 */
function waitForPrograms(): void {
  using inner = BpfMap.create({ type: 'array', value: 4, maxEntries: 1 })
  using outer = BpfMap.create({ type: 'array_of_maps', maxEntries: 1, innerMap: inner })
  outer.update(0, inner.fd)
}

/** False also where it may not be known (without CAP_SYS_ADMIN). */
function isGone(id: number): boolean {
  try {
    return programInfoById(id) === undefined
  } catch (error) {
    if (error instanceof KernelError) return false
    throw error
  }
}

function entriesOf(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
