// Opens the source of a mode, and for `auto` the best one that works, with the reasons for every one that did not.
import { OptionError, NotFoundError, XdpError } from '../kernel/index.js'
import { FilterError } from '../filter/index.js'
import { requireSpare } from './divert-safety.js'
import { DivertSource } from './divert-source.js'
import type { CheckedCapture, LiveMode } from './engine-options.js'
import { MirrorSource } from './mirror-source.js'
import { PacketRing } from './packet-ring.js'
import type { PacketSource } from './source.js'

/** A mode that was tried and could not have. */
export interface Fallback {
  mode: LiveMode
  /** One sentence. */
  reason: string
  error: Error
}

/** Of a ring of AF_PACKET. */
const BLOCK_SIZE = 262_144

/** Opens the first of the modes that can be had. Fallbacks are reported as they happen; throws what the last mode threw. */
export async function openSource(
  modes: readonly LiveMode[],
  options: CheckedCapture,
  onFallback: (fallback: Fallback) => void,
): Promise<PacketSource> {
  for (const mode of modes.slice(0, -1)) {
    try {
      return await openMode(mode, options)
    } catch (error) {
      if (!canFallBack(error)) throw error
      onFallback({ mode, reason: error.message, error })
    }
  }
  return openMode(modes[modes.length - 1], options)
}

/** What was asked for wrongly is as wrong in every mode. */
function canFallBack(error: unknown): error is XdpError {
  if (!(error instanceof XdpError)) return false
  return !(error instanceof OptionError || error instanceof NotFoundError || error instanceof FilterError)
}

function openMode(mode: LiveMode, options: CheckedCapture): PacketSource | Promise<PacketSource> {
  const { interface: name, namespace, filter, snapLength, ringBytes, xdpMode, queues = 'all' } = options
  if (mode === 'divert') requireSpare(name, options.takeTraffic ?? false, namespace)
  if (options.openSource) return options.openSource(mode, options)
  const common = { interface: name, namespace, filter, snapLength }
  switch (mode) {
    case 'divert':
      return DivertSource.open({ batch: options.batch, ...options.sockets, ...common, queues, xdpMode })
    case 'mirror':
      return MirrorSource.open({ ...common, queues, ringBytes, xdpMode })
    case 'packet':
      return PacketRing.open({
        ...common,
        promiscuous: options.promiscuous,
        ...(options.timeout > 0 && { blockTimeout: options.timeout }),
        ...(ringBytes !== undefined && ringShape(ringBytes)),
      })
  }
}

function ringShape(bytes: number): { blockSize: number; blocks: number } {
  const blockSize = Math.min(BLOCK_SIZE, 2 ** Math.floor(Math.log2(bytes / 4)))
  return { blockSize, blocks: Math.floor(bytes / blockSize) }
}
