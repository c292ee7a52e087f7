// A program of the user's choice that gives packets to the sockets of a command.
import type { BpfMap } from '../bpf/index.js'
import { OptionError } from '../kernel/index.js'
import type { SteeringProgram } from '../xsk/index.js'
import type { ChosenProgram } from './choose-program.js'
import { requireProgram, type SteeringFlags } from './program-options.js'
import { requireConsent } from './take-traffic.js'

/** The map that such a program finds its sockets in, by queue: the name that libxdp uses too. */
const SOCKET_MAP = 'xsks_map'

/** Loads a program for sockets: `XdpGroupOptions.program`. */
export type Steering = (shape: { queues: number }) => SteeringProgram

/**
 * The program that `--program` names, to stand in the place of a command's own; undefined when none is named. `name` is the
 * interface whose traffic it may take; a lab's, which has nobody's, is left out. Nothing is loaded yet. Throws what
 * `chooseProgram` does, `OptionError` for a program without a map of sockets, and what `requireConsent` does.
 */
export async function chooseSteering(flags: SteeringFlags, name?: string): Promise<Steering | undefined> {
  if (flags.program === undefined) {
    requireProgram(flags, ['section', 'set', 'filter'])
    return undefined
  }
  // Loaded only now: a command that stays up for months should be small.
  const { chooseProgram, requireForInterface } = await import('./choose-program.js')
  const chosen = chooseProgram(flags.program, flags)
  requireForInterface(chosen)
  requireSockets(chosen)
  if (name !== undefined) requireConsent(name, flags.takeTraffic ?? false)
  return (shape) => loadSteering(chosen, shape)
}

/** Throws `OptionError` for a program that has no map of sockets. */
export function requireSockets(chosen: ChosenProgram): void {
  for (const { name, type } of chosen.code().maps.values()) {
    if (name === SOCKET_MAP && type === 'xskmap') return
  }
  throw withoutSockets(chosen)
}

/** Loads a program for sockets. Throws `OptionError` for one that has no map of sockets, and what `load` throws. */
export function loadSteering(chosen: ChosenProgram, shape: { queues: number }): SteeringProgram {
  const loaded = chosen.load(shape)
  const sockets = loaded.maps.get(SOCKET_MAP)
  if (sockets?.type !== 'xskmap') {
    loaded.close()
    throw withoutSockets(chosen)
  }
  return { program: loaded.program, sockets: sockets as BpfMap<number, number>, close: () => loaded.close() }
}

const withoutSockets = ({ title }: ChosenProgram): OptionError =>
  new OptionError(
    'program',
    `The program ${title} gives no packets to sockets: it uses no map "${SOCKET_MAP}" of type xskmap`,
    'Name one that redirects packets through such a map, as redirect and every-other do.',
  )
