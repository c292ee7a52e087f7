// The configuration of a capture in YAML: the keys, what they may be, and the options they come to.
import * as v from 'valibot'
import { parse, stringify } from 'yaml'
import { OptionError } from '../kernel/errors.js'
import type { CaptureOptions, LiveMode } from './engine-options.js'

// include/uapi/linux/if_link.h
const XDP_FLAGS_SKB_MODE = 2
const XDP_FLAGS_DRV_MODE = 4
const XDP_FLAGS_HW_MODE = 8
// include/uapi/linux/if_xdp.h
const XDP_SHARED_UMEM = 1
const XDP_COPY = 2
const XDP_ZEROCOPY = 4
const XDP_USE_NEED_WAKEUP = 8

const UNITS: Readonly<Record<string, number>> = {
  us: 0.001,
  µs: 0.001,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
}

const whole = (least: number, most: number) =>
  v.pipe(
    v.number(`is no number`),
    v.integer('is no whole number'),
    v.minValue(least, `is below ${least}`),
    v.maxValue(most, `is above ${most}`),
  )
const switchOf = v.boolean('is neither true nor false')
const powerOfTwo = (least: number, most: number) =>
  v.pipe(
    whole(least, most),
    v.check((value) => (value & (value - 1)) === 0, 'is no power of two'),
  )
/** `100ms`, `10s`, `1m`: milliseconds, which may not be above `most`. */
const duration = (most: number) =>
  v.pipe(
    v.string('is no duration: write 100ms, 10s or 1m'),
    v.regex(/^\d+(\.\d+)?(us|µs|ms|s|m|h)$/, 'is no duration: write 100ms, 10s or 1m'),
    v.transform((text) => {
      const [, number, unit] = /^([\d.]+)(\D+)$/.exec(text) as RegExpExecArray
      return Number(number) * UNITS[unit]
    }),
    v.maxValue(most, `is above ${formatDuration(most)}`),
  )
const queue = whole(0, 65_535)

const captureKeys = {
  interface: v.pipe(v.string('is no name'), v.minLength(1, 'is empty')),
  mode: v.picklist(['auto', 'divert', 'mirror', 'packet'], 'is not auto, divert, mirror or packet'),
  use_xdp: switchOf,
  xdp_queue_id: v.union(
    [queue, v.literal('all'), v.pipe(v.array(queue), v.minLength(1, 'is empty'))],
    'is neither a queue, nor a list of queues, nor all',
  ),
  take_traffic: switchOf,
  filter: v.string('is no text'),
  snap_length: whole(1, 262_144),
  ring_bytes: whole(65_536, 2 ** 30),
  buffer_size: whole(1, 1 << 24),
  batch_size: whole(1, 65_536),
  timeout: duration(60_000),
  enable_stats: switchOf,
  stats_interval: v.pipe(duration(86_400_000), v.minValue(1, 'is below 1ms')),
}
const durationKeys = ['timeout', 'stats_interval']
const xdpKeys = {
  umem_size: whole(4096, 2 ** 32 - 4096),
  num_frames: whole(1, 2 ** 21),
  frame_size: powerOfTwo(2048, 4096),
  rx_ring_size: powerOfTwo(1, 2 ** 20),
  tx_ring_size: powerOfTwo(1, 2 ** 20),
  fill_ring_size: powerOfTwo(1, 2 ** 20),
  comp_ring_size: powerOfTwo(1, 2 ** 20),
  batch_size: whole(1, 1024),
  flags: v.pipe(
    whole(0, 15),
    v.check(
      (flags) => (flags & XDP_FLAGS_HW_MODE) === 0,
      'asks for hardware mode, which sockets cannot have',
    ),
    v.check(
      (flags) => (flags & XDP_FLAGS_SKB_MODE) === 0 || (flags & XDP_FLAGS_DRV_MODE) === 0,
      'asks for generic and native mode at once',
    ),
  ),
  bind_flags: v.pipe(
    whole(0, 31),
    v.check(
      (flags) => (flags & XDP_COPY) === 0 || (flags & XDP_ZEROCOPY) === 0,
      'asks for copying and zero copy at once',
    ),
  ),
  enable_stats: switchOf,
}

const schema = v.strictObject(
  {
    capture: v.optional(
      v.strictObject(v.entriesFromObjects([v.partial(v.object(captureKeys))]), problem),
      {},
    ),
    xdp: v.optional(v.strictObject(v.entriesFromObjects([v.partial(v.object(xdpKeys))]), problem), {}),
  },
  problem,
)

/** A checked configuration, under the keys of the file; durations are milliseconds. What was not given is undefined. */
export type CaptureConfig = v.InferOutput<typeof schema>

/** What is said of a value that is no mapping, or of a key that is none. */
function problem({ expected, received }: { expected: string | null; received: string }): string {
  return expected === 'never'
    ? 'is no key'
    : received === 'undefined'
      ? 'is missing'
      : 'is no mapping of keys'
}

/** Reads a configuration. Throws `OptionError` whose message begins with the key at fault: `xdp.rx_ring_size is …`. */
export function parseConfig(text: string, name = 'the configuration'): CaptureConfig {
  let value: unknown
  try {
    value = parse(text) ?? {}
  } catch (error) {
    const [sentence] = (error as Error).message.split('\n')
    throw new OptionError('config', `${name}: ${sentence.replace(/:$/, '')}`, 'A configuration is YAML.')
  }
  return checkConfig(value, name)
}

/** The same for a value that is there already. */
export function checkConfig(value: unknown, name = 'the configuration'): CaptureConfig {
  if (Array.isArray(value)) throw new OptionError('config', `${name}: it is no mapping of keys`)
  const result = v.safeParse(
    schema,
    typeof value === 'object' && value !== null ? sections(value, name) : value,
  )
  if (result.success) return result.output
  const [issue] = result.issues
  const path = v.getDotPath(issue) ?? ''
  const shown = issue.message === 'is no key' || path === '' ? '' : ` (${shownValue(path, issue)})`
  throw new OptionError(
    path || 'config',
    `${name}: ${path || 'it'}${shown} ${issue.message}`,
    issue.message === 'is no key' ? `The keys are ${keysBeside(path)}.` : undefined,
  )
}

/** A section whose keys are all commented out is null, and empty. An array has properties too, and is no mapping. */
function sections(value: object, name: string): object {
  return Object.fromEntries(
    Object.entries(value).map(([key, section]: [string, unknown]) => {
      if (Array.isArray(section)) throw new OptionError(key, `${name}: ${key} is no mapping of keys`)
      return [key, section ?? {}]
    }),
  )
}

// What is too long or too short a duration is one, and milliseconds by then.
function shownValue(path: string, { type, input }: { type: string; input: unknown }): string {
  const isDuration = type.endsWith('_value') && durationKeys.some((key) => path.endsWith(`.${key}`))
  return isDuration ? formatDuration(input as number) : JSON.stringify(input)
}

function keysBeside(path: string): string {
  const [section, key] = path.split('.')
  if (key === undefined) return 'capture and xdp'
  return Object.keys(section === 'xdp' ? xdpKeys : captureKeys).join(', ')
}

/** One configuration with what another says in its place. `mode` and `use_xdp` answer one question, the last of them alone. */
export function mergeConfig(below: CaptureConfig, above: CaptureConfig): CaptureConfig {
  const answers = above.capture.mode !== undefined || above.capture.use_xdp !== undefined
  const unanswered = answers ? { mode: undefined, use_xdp: undefined } : {}
  return {
    capture: given({ ...below.capture, ...unanswered, ...given(above.capture) }),
    xdp: { ...below.xdp, ...given(above.xdp) },
  }
}

/** As YAML, to be read by `parseConfig` again. */
export function printConfig({ capture, xdp }: CaptureConfig): string {
  const text = (value: unknown, key: string) =>
    typeof value === 'number' && durationKeys.includes(key) ? formatDuration(value) : value
  const inOrder = (keys: object, values: Readonly<Record<string, unknown>>) =>
    given(Object.fromEntries(Object.keys(keys).map((key) => [key, text(values[key], key)])))
  const sockets = inOrder(xdpKeys, xdp)
  return stringify({
    capture: inOrder(captureKeys, capture),
    ...(Object.keys(sockets).length > 0 && { xdp: sockets }),
  })
}

/** Milliseconds in the largest unit that needs no fraction. */
export function formatDuration(milliseconds: number): string {
  for (const unit of ['h', 'm', 's', 'ms']) {
    if (milliseconds % UNITS[unit] === 0 && milliseconds >= UNITS[unit])
      return `${milliseconds / UNITS[unit]}${unit}`
  }
  return milliseconds === 0 ? '0ms' : `${Math.round(milliseconds * 1000)}us`
}

/**
 * The configuration with what holds where it says nothing. What a capture does not have stays away: a queue that was not asked
 * for, sockets in a mode without.
 */
export function wholeConfig(config: CaptureConfig): CaptureConfig {
  const { capture } = mergeConfig({ capture: DEFAULT_CAPTURE, xdp: {} }, config)
  const diverts = capture.mode === 'divert' || (capture.mode === undefined && capture.use_xdp === true)
  return { capture, xdp: diverts ? { ...DEFAULT_XDP, ...given(config.xdp) } : config.xdp }
}

const DEFAULT_CAPTURE: CaptureConfig['capture'] = {
  mode: 'auto',
  xdp_queue_id: 'all',
  snap_length: 262_144,
  enable_stats: true,
}

const FRAMES = 8192
const FRAME_SIZE = 2048

const DEFAULT_XDP: CaptureConfig['xdp'] = {
  umem_size: FRAMES * FRAME_SIZE,
  num_frames: FRAMES,
  frame_size: FRAME_SIZE,
  rx_ring_size: 8192,
  tx_ring_size: 64,
  fill_ring_size: 8192,
  comp_ring_size: 64,
  batch_size: 1024,
  flags: 0,
  bind_flags: XDP_USE_NEED_WAKEUP,
  enable_stats: false,
}

/** What is less than the configuration asks for. */
export interface ConfigWarning {
  /** `xdp.bind_flags`. */
  key: string
  message: string
}

/** The options for `CaptureEngine.open`, and what of the configuration cannot be honoured. */
export function configOptions(config: CaptureConfig): { options: CaptureOptions; warnings: ConfigWarning[] } {
  const { capture, xdp } = config
  const warnings: ConfigWarning[] = []
  const warn = (key: string, message: string) => warnings.push({ key, message: `${key} ${message}` })
  const bind = xdp.bind_flags
  if (bind !== undefined && bind & XDP_SHARED_UMEM)
    warn('xdp.bind_flags', 'asks for a shared UMEM: all queues share one anyway')
  const options: CaptureOptions = {
    interface: capture.interface ?? '',
    mode: modesOf(capture.mode, capture.use_xdp),
    filter: capture.filter,
    snapLength: capture.snap_length,
    ringBytes: capture.ring_bytes === undefined ? undefined : 2 ** Math.ceil(Math.log2(capture.ring_bytes)),
    takeTraffic: capture.take_traffic,
    buffer: capture.buffer_size,
    batch: capture.batch_size,
    timeout: capture.timeout === undefined ? undefined : Math.round(capture.timeout),
    queues: typeof capture.xdp_queue_id === 'number' ? [capture.xdp_queue_id] : capture.xdp_queue_id,
    xdpMode: modeOf(xdp.flags ?? 0),
    sockets: {
      umem: given(framesOf(xdp, warn)),
      rings: given({
        rx: xdp.rx_ring_size,
        tx: xdp.tx_ring_size,
        fill: xdp.fill_ring_size,
        completion: xdp.comp_ring_size,
      }),
      ...given({ batch: xdp.batch_size }),
      ...(bind !== undefined && {
        copy: bind & XDP_ZEROCOPY ? 'zero-copy' : bind & XDP_COPY ? 'copy' : 'auto',
        needWakeup: (bind & XDP_USE_NEED_WAKEUP) !== 0,
      }),
    },
  }
  return { options, warnings }
}

/** The keys that were given and say nothing to a capture in this mode. */
export function idleKeys({ capture, xdp }: CaptureConfig, mode: string): ConfigWarning[] {
  const idle: string[] = []
  for (const key of Object.keys(given(xdp))) {
    if (mode === 'divert' || (key === 'flags' && mode === 'mirror')) continue
    idle.push(`xdp.${key}`)
  }
  if (mode === 'packet' && capture.xdp_queue_id !== undefined && capture.xdp_queue_id !== 'all')
    idle.push('capture.xdp_queue_id')
  if (mode === 'divert' && capture.ring_bytes !== undefined) idle.push('capture.ring_bytes')
  const warnings = idle.map((key) => ({ key, message: `${key} has no effect in mode ${mode}` }))
  if (capture.enable_stats === false && capture.stats_interval !== undefined) {
    const key = 'capture.stats_interval'
    warnings.push({ key, message: `${key} has no effect while capture.enable_stats is false` })
  }
  return warnings
}

/**
 * `use_xdp` is what it is in the systems that have the key: AF_XDP where it can be had, or the next best. A mode beside it
 * says more, and goes before.
 */
function modesOf(mode: 'auto' | LiveMode | undefined, useXdp: boolean | undefined): CaptureOptions['mode'] {
  if (mode !== undefined) return mode
  if (useXdp === undefined) return 'auto'
  return useXdp ? ['divert', 'mirror', 'packet'] : 'packet'
}

function modeOf(flags: number): 'auto' | 'native' | 'generic' {
  return flags & XDP_FLAGS_SKB_MODE ? 'generic' : flags & XDP_FLAGS_DRV_MODE ? 'native' : 'auto'
}

/** Frames of a socket: as many as were asked for, but no more than the memory has room for. */
function framesOf(
  { umem_size: size, num_frames: frames, frame_size: asked }: CaptureConfig['xdp'],
  warn: (key: string, message: string) => void,
): { frames: number | undefined; frameSize: number | undefined } {
  if (size === undefined) return { frames, frameSize: asked }
  // So much memory and no more, whatever frames the interface's packets would have got.
  const frameSize = asked ?? FRAME_SIZE
  const room = Math.floor(size / frameSize)
  if (frames !== undefined && frames > room)
    warn('xdp.num_frames', `is ${frames}, but xdp.umem_size has room for ${room}: that many are made`)
  return { frames: Math.min(frames ?? room, room), frameSize }
}

function given<T extends object>(values: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>
  }
}
