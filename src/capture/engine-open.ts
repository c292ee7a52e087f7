// Opens the source of a mode, and for `auto` the best one that works, with the reasons for every one that did not.
import { OptionError, NotFoundError, XdpError } from '../kernel/index.js'
import { FilterError } from '../filter/index.js'
import { requireSpare } from './divert-safety.js'
import { DivertSource } from './divert-source.js'
import type { CheckedCapture, LiveMode } from './engine-options.js'
import { MirrorSource } from './mirror-source.js'
import { PacketRing } from './packet-ring.js'
import type { PacketSource } from './source.js'

/** A mode that `auto` tried and could not have. */
export interface Fallback {
  mode: LiveMode
  /** One sentence. */
  reason: string
  error: Error
}

const AUTO: readonly LiveMode[] = ['mirror', 'packet']
/** Of a ring of AF_PACKET. */
const BLOCK_SIZE = 262_144

/** Opens what `mode` asks for. Fallbacks are reported as they happen; throws what the last mode threw. */
export async function openSource(
  mode: 'auto' | LiveMode,
  options: CheckedCapture,
  onFallback: (fallback: Fallback) => void,
): Promise<PacketSource> {
  if (mode !== 'auto') return openMode(mode, options)
  const [last] = AUTO.slice(-1)
  for (const mode of AUTO.slice(0, -1)) {
    try {
      return await openMode(mode, options)
    } catch (error) {
      if (!canFallBack(error)) throw error
      onFallback({ mode, reason: error.message, error })
    }
  }
  return openMode(last, options)
}

/** What was asked for wrongly is as wrong in every mode. */
function canFallBack(error: unknown): error is XdpError {
  if (!(error instanceof XdpError)) return false
  return !(error instanceof OptionError || error instanceof NotFoundError || error instanceof FilterError)
}

function openMode(mode: LiveMode, options: CheckedCapture): PacketSource | Promise<PacketSource> {
  const { interface: name, namespace, filter, snapLength, ringBytes, xdpMode } = options
  if (mode === 'divert') requireSpare(name, options.takeTraffic ?? false, namespace)
  if (options.openSource) return options.openSource(mode, options)
  const common = { interface: name, namespace, filter, snapLength }
  switch (mode) {
    case 'divert':
      return DivertSource.open({ ...common, ...options.sockets, xdpMode, batch: options.batch })
    case 'mirror':
      return MirrorSource.open({ ...common, ringBytes, xdpMode })
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
