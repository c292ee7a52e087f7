// How many processors per-CPU maps have a slot for.
import { readFileSync } from 'node:fs'
import { XdpError } from '../kernel/errors.js'

let count: number | undefined

/** The number of processors that could ever be there (num_possible_cpus), which may be more than are online. */
export function possibleCpus(): number {
  count ??= parseCpuList(readFileSync('/sys/devices/system/cpu/possible', 'utf8')).length
  return count
}

/** Reads the kernel's list notation: `0-3,8`. */
export function parseCpuList(text: string): number[] {
  const cpus: number[] = []
  for (const range of text.trim().split(',')) {
    const match = /^(\d+)(?:-(\d+))?$/.exec(range)
    if (!match) throw new XdpError('XDP_PARSE', `"${text.trim()}" is no list of processors`)
    const first = Number(match[1])
    for (let cpu = first; cpu <= Number(match[2] ?? first); cpu++) cpus.push(cpu)
  }
  return cpus
}
