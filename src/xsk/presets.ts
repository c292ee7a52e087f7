// Presets: values for several options at once, for those who do not want to choose each.
import { OptionError } from '../kernel/index.js'
import type { RunOptions } from './loop.js'
import type { BusyPollOptions, RingSizes } from './options.js'
import type { UmemOptions } from './umem.js'

/**
 * What to tune for. `default` costs nothing while idle and little memory. `highThroughput` takes more packets at a time
 * and has room for bursts. `lowLatency` polls, with a processor each, and keeps queues short.
 */
export type Preset = 'default' | 'highThroughput' | 'lowLatency'

/** What a preset says; an option that is given beats it. */
export interface PresetValues {
  readonly umem: Required<Pick<UmemOptions, 'frames'>> & Pick<UmemOptions, 'hugePages'>
  readonly rings: Readonly<RingSizes>
  /** Packets taken at a time. */
  readonly batch: number
  readonly busyPoll: false | Readonly<BusyPollOptions>
  /** How `run` waits, for a socket that has its thread to itself. */
  readonly wait: NonNullable<RunOptions['wait']>
  /** Where the workers of a group run. */
  readonly cpus: 'auto' | 'none'
}

const rings = (size: number): RingSizes => ({ rx: size, tx: size, fill: size, completion: size })

export const PRESETS: Readonly<Record<Preset, PresetValues>> = {
  default: {
    umem: { frames: 4096 },
    rings: rings(2048),
    batch: 64,
    busyPoll: false,
    wait: 'event-loop',
    cpus: 'none',
  },
  // A burst of 4096 packets fits; one poll(2) serves up to 256 of them.
  highThroughput: {
    umem: { frames: 16384, hugePages: 'auto' },
    rings: rings(4096),
    batch: 256,
    busyPoll: false,
    wait: 'poll',
    cpus: 'auto',
  },
  // A ring of 512 is 0.5 ms of waiting at 1 Mpps: what is older is better dropped.
  lowLatency: {
    umem: { frames: 2048 },
    rings: rings(512),
    batch: 16,
    busyPoll: { microseconds: 20, budget: 16 },
    wait: 'event-loop',
    cpus: 'auto',
  },
}

/** The values of a preset. Throws `OptionError` for a name that is none. */
export function presetValues(name: Preset = 'default'): PresetValues {
  if (Object.hasOwn(PRESETS, name)) return PRESETS[name]
  throw new OptionError(
    'preset',
    `"${String(name)}" is no preset`,
    `Use one of ${Object.keys(PRESETS).join(', ')}.`,
  )
}
