// The types of a capture's options, for callers whom no compiler has checked: what is of another type is refused by name.
import { Filter } from '../filter/index.js'
import { Namespace, OptionError } from '../kernel/index.js'
import { oneOf } from '../kernel/one-of.js'

const XDP_MODES = ['auto', 'native', 'generic'] as const

type Given = Readonly<Record<string, unknown>>

/** Throws `OptionError` for options of a wrong type. Numbers are checked where their ranges are. */
export function checkTypes(options: unknown): void {
  if (!isObject(options)) throw new OptionError('interface', 'No interface was named')
  const { interface: name, namespace, filter, queues, xdpMode = 'auto', openSource, sockets = {} } = options
  if (typeof name !== 'string' || name === '') throw new OptionError('interface', 'No interface was named')
  requireThat(
    namespace === undefined || namespace instanceof Namespace,
    'namespace',
    namespace,
    'a `Namespace`',
  )
  const isFilter = filter === undefined || typeof filter === 'string' || filter instanceof Filter
  requireThat(isFilter, 'filter', filter, 'an expression, or what `compileFilter` made of one')
  oneOf('xdpMode', xdpMode, XDP_MODES)
  checkQueues(queues)
  booleans(options, ['takeTraffic', 'promiscuous', 'lenient'])
  const isOpener = openSource === undefined || typeof openSource === 'function'
  requireThat(isOpener, 'openSource', openSource, 'a function')
  checkSockets(sockets)
}

/** What `XdpGroup.open` takes for granted. */
function checkSockets(sockets: unknown): void {
  if (!isObject(sockets)) throw wrongType('sockets', sockets, 'an object')
  for (const name of ['rings', 'umem'] as const) {
    const value = sockets[name]
    requireThat(value === undefined || isObject(value), `sockets.${name}`, value, 'an object')
  }
  const { program, busyPoll } = sockets
  requireThat(
    program === undefined || typeof program === 'function',
    'sockets.program',
    program,
    'a function',
  )
  const isPolling = busyPoll === undefined || typeof busyPoll === 'boolean' || isObject(busyPoll)
  requireThat(isPolling, 'sockets.busyPoll', busyPoll, 'true, false or an object')
  booleans(sockets, ['needWakeup', 'strict'], 'sockets.')
}

function checkQueues(queues: unknown): void {
  const isList = Array.isArray(queues) && queues.every((queue) => Number.isInteger(queue) && queue >= 0)
  requireThat(
    queues === undefined || queues === 'all' || isList,
    'queues',
    queues,
    '"all", or a list of whole numbers from 0 on',
  )
}

function booleans(options: Given, names: readonly string[], prefix = ''): void {
  for (const name of names) {
    const value = options[name]
    requireThat(value === undefined || typeof value === 'boolean', prefix + name, value, 'true or false')
  }
}

function isObject(value: unknown): value is Given {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function requireThat(isRight: boolean, option: string, value: unknown, wanted: string): void {
  if (!isRight) throw wrongType(option, value, wanted)
}

function wrongType(option: string, value: unknown, wanted: string): OptionError {
  const shown =
    typeof value === 'string'
      ? `"${value}"`
      : Array.isArray(value)
        ? `[${value.join(', ')}]`
        : describe(value)
  return new OptionError(option, `${option} is ${shown}; it must be ${wanted}`)
}

function describe(value: unknown): string {
  if (typeof value === 'function') return 'a function'
  return isObject(value) ? 'an object' : String(value)
}
