// How many processors per-CPU maps have a slot for.
import { readFileSync } from 'node:fs'
import { OptionError, XdpError } from '../kernel/errors.js'

let possible: { readonly text: string; readonly cpus: ReadonlySet<number> } | undefined

function readPossible(): { readonly text: string; readonly cpus: ReadonlySet<number> } {
  if (!possible) {
    const text = readFileSync('/sys/devices/system/cpu/possible', 'utf8').trim()
    possible = { text, cpus: new Set(parseCpuList(text)) }
  }
  return possible
}

/** The number of processors that could ever be there (num_possible_cpus), which may be more than are online. */
export function possibleCpus(): number {
  return readPossible().cpus.size
}

/** Throws `OptionError` for a processor that can never be there (cpu_possible): cpumaps take no other. */
export function checkCpus(cpus: readonly number[], option: string): void {
  const { text, cpus: there } = readPossible()
  const missing = cpus.find((cpu) => !there.has(cpu))
  if (missing === undefined) return
  const verb = there.size === 1 ? 'is' : 'are'
  throw new OptionError(option, `There is no processor ${missing}; there ${verb} ${text}`)
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
