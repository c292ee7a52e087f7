// What the lab commands share: which lab, which end.
import { Option } from 'commander'
import { Lab, type EndId } from '../../lab/index.js'

/** The lab that is meant when none is named. */
export const DEFAULT_LAB = 'xdplab0'

/** The words for the optional first argument. */
export const labArgument = ['[name]', 'the lab', DEFAULT_LAB] as const

/** `--end`, with the end that is meant without it. */
export function endOption(usual: EndId): Option {
  return new Option('-e, --end <end>', 'at which end').choices(['a', 'b']).default(usual)
}

/** Opens a lab for a piece of work, and lets go of it after. Throws `NotFoundError`. */
export async function withLab<T>(name: string, work: (lab: Lab) => T | Promise<T>): Promise<T> {
  const lab = Lab.open(name)
  try {
    return await work(lab)
  } finally {
    lab.close()
  }
}

/** Where an end is, in words: `namespace xdp-lab-b`. */
export function whereIs(lab: Lab, end: EndId): string {
  const { namespace } = lab[end]
  return namespace ? `namespace ${namespace.name}` : 'this namespace'
}
