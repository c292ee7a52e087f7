// A program of the user's choice that gives packets to the sockets of a command.
import type { BpfMap } from '../bpf/index.js'
import { OptionError } from '../kernel/index.js'
import type { SteeringProgram } from '../xsk/index.js'
import type { ChosenProgram } from './choose-program.js'

/** The map that such a program finds its sockets in, by queue: the name that libxdp uses too. */
const SOCKET_MAP = 'xsks_map'

/** Loads a program for sockets. Throws `OptionError` for one that has no map of sockets, and what `load` throws. */
export function loadSteering(chosen: ChosenProgram, shape: { queues: number }): SteeringProgram {
  const loaded = chosen.load(shape)
  const sockets = loaded.maps.get(SOCKET_MAP)
  if (sockets?.type !== 'xskmap') {
    loaded.close()
    throw new OptionError(
      'program',
      `The program ${chosen.title} gives no packets to sockets: it uses no map "${SOCKET_MAP}" of type xskmap`,
      'Name one that redirects packets through such a map, as redirect and every-other do.',
    )
  }
  return { program: loaded.program, sockets: sockets as BpfMap<number, number>, close: () => loaded.close() }
}
