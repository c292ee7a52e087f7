// Which processor each worker of a group runs on.
import { readFileSync } from 'node:fs'
import { parseCpuList } from '../bpf/cpus.js'
import { OptionError, getAffinity } from '../kernel/index.js'

/** `auto`: one each, near the device where that is known. `none`: the scheduler's choice. Or the processors to use, in turn. */
export type WorkerCpus = 'auto' | 'none' | readonly number[]

/**
 * The processor of each of `workers` workers, undefined for none in particular; more workers than processors share
 * them in turn. `auto` takes the processors of the NUMA node of the interface (/sys/class/net/…/device/numa_node), as
 * far as this process may use them, and all that it may use when the device says nothing. Throws `OptionError` for a
 * processor that this process may not use.
 */
export function planCpus(
  cpus: WorkerCpus,
  workers: number,
  near?: string,
  sysfs = '/sys',
): (number | undefined)[] {
  if (cpus === 'none') return Array.from({ length: workers }, () => undefined)
  const allowed = getAffinity()
  const list = cpus === 'auto' ? nearTo(near, allowed, sysfs) : cpus
  if (!Array.isArray(cpus) && cpus !== 'auto')
    throw new OptionError('cpus', `"${String(cpus)}" names no processors`)
  if (list.length === 0) {
    throw new OptionError('cpus', 'No processor was named', 'Use "auto", "none", or at least one number.')
  }
  for (const cpu of list) {
    if (!allowed.includes(cpu)) {
      throw new OptionError(
        'cpus',
        `This process may not run on processor ${cpu}`,
        `It may use ${allowed.join(', ')}.`,
      )
    }
  }
  return Array.from({ length: workers }, (_, i) => list[i % list.length])
}

function nearTo(name: string | undefined, allowed: readonly number[], sysfs: string): readonly number[] {
  if (name === undefined) return allowed
  try {
    const node = Number(readFileSync(`${sysfs}/class/net/${name}/device/numa_node`, 'utf8'))
    if (!(node >= 0)) return allowed // -1: no node
    const near = parseCpuList(readFileSync(`${sysfs}/devices/system/node/node${node}/cpulist`, 'utf8'))
    const both = allowed.filter((cpu) => near.includes(cpu))
    return both.length > 0 ? both : allowed
  } catch {
    return allowed // a virtual device has no node
  }
}
