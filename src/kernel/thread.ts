// What belongs to the calling thread: its processors and its id.
import { OptionError, check } from './errors.js'
import { native } from './native.js'

const MASK_BYTES = 128 // 1024 processors, as glibc's cpu_set_t

/** The processors the calling thread may run on. */
export function getAffinity(): number[] {
  const mask = new Uint8Array(MASK_BYTES)
  const bytes = check(native.getaffinity(mask), 'sched_getaffinity')
  const cpus: number[] = []
  for (let cpu = 0; cpu < bytes * 8; cpu++) if (mask[cpu >> 3] & (1 << (cpu & 7))) cpus.push(cpu)
  return cpus
}

/** Binds the calling thread to these processors. Throws `OptionError` for none, `KernelError` EINVAL for one that is not there. */
export function setAffinity(cpus: readonly number[]): void {
  const mask = new Uint8Array(MASK_BYTES)
  for (const cpu of cpus) {
    if (!Number.isInteger(cpu) || cpu < 0 || cpu >= MASK_BYTES * 8) {
      throw new OptionError('cpu', `"${cpu}" is no processor number`)
    }
    mask[cpu >> 3] |= 1 << (cpu & 7)
  }
  if (cpus.length === 0) throw new OptionError('cpu', 'A thread needs at least one processor')
  check(native.setaffinity(mask), 'sched_setaffinity', {
    about: `processors ${cpus.join(', ')}`,
    hint: 'The processors this process may use are listed by `taskset -p $$`.',
  })
}

/** The kernel's id of the calling thread, as in /proc/self/task. */
export function threadId(): number {
  return check(native.gettid(), 'gettid')
}
