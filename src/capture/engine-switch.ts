// From one mode to another while packets flow; back to the one before when the other cannot be had.
import { requireSpare } from './divert-safety.js'
import { openSource, type Report } from './engine-open.js'
import type { CheckedCapture, LiveMode } from './engine-options.js'
import type { PacketSource, SourceMode } from './source.js'

/** What became of a switch of modes. */
export interface ModeSwitch {
  from: SourceMode
  to: SourceMode
  /** What may have happened to packets that came meanwhile: both XDP modes cannot be attached at once. */
  between: 'some may be doubled' | 'some may be lost'
}

/** The engine, as far as a switch needs it. */
export interface Switching {
  readonly options: CheckedCapture
  readonly report: Report
  /** Hands on everything that a source caught. */
  drain(source: PacketSource): Promise<void>
  /** `next` takes the place of `old`, which is drained first. */
  replace(old: PacketSource, next: PacketSource): Promise<void>
  /** There is no source any more. */
  end(error: Error): void
}

/** For going back to a mode that was had before: what there is to say of it was said. */
const SILENT: Report = { fallback: () => undefined, warning: () => undefined }

/** Opens the first of `modes` that can be had in the place of `old`. Throws what keeps the last one from being had. */
export async function switchSource(
  engine: Switching,
  old: PacketSource,
  from: LiveMode,
  modes: readonly LiveMode[],
): Promise<ModeSwitch> {
  if (modes[0] === from) return { from, to: from, between: 'some may be doubled' }
  if (from !== 'packet' && modes[0] !== 'packet') return switchThroughNothing(engine, old, from, modes)
  const next = await openSource(modes, engine.options, engine.report)
  await engine.replace(old, next)
  return { from, to: next.mode, between: 'some may be doubled' }
}

/** One program makes room for the other. */
async function switchThroughNothing(
  engine: Switching,
  old: PacketSource,
  from: LiveMode,
  modes: readonly LiveMode[],
): Promise<ModeSwitch> {
  const { options, report } = engine
  // What is known to be refused is refused before anything is given up.
  if (modes[0] === 'divert') requireSpare(options.interface, options.takeTraffic ?? false, options.namespace)
  await engine.drain(old)
  await old.close()
  let next: PacketSource
  try {
    next = await openSource(modes, options, report)
  } catch (error) {
    await goBack(engine, old, from)
    throw error
  }
  await engine.replace(old, next)
  return { from, to: next.mode, between: 'some may be lost' }
}

/** To the mode before; when that cannot be had any more either, the capture ends. */
async function goBack(engine: Switching, old: PacketSource, mode: LiveMode): Promise<void> {
  try {
    await engine.replace(old, await openSource([mode], engine.options, SILENT))
  } catch (error) {
    engine.end(error as Error)
  }
}
