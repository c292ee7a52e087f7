// A filter as a setting of shipped programs. Apart from the rest of them: who needs no filter need not load the compiler of filters.
import { compileFilter } from '../filter/index.js'
import { defineFiltered } from './filtered.js'
import { type ProgramSetting, type ShippedProgram, oneValue } from './shipped.js'

/** The setting of all shipped programs that do not treat all packets alike anyway. */
const FILTER: ProgramSetting = {
  summary: "which packets it gets, in tcpdump's language; the others pass (default: all)",
  example: 'icmp',
}

/** A program that a filter can be set of: packets that do not match pass before they get to it. */
export function filterable(shipped: ShippedProgram): ShippedProgram {
  return {
    ...shipped,
    settings: { ...shipped.settings, filter: FILTER },
    define: (given, shape) => {
      const expression = oneValue(given, 'filter')
      // First, so that what is wrong with the filter is said before what the program would ask of the system.
      const filter = expression === undefined ? undefined : compileFilter(expression)
      const defined = shipped.define(given, shape)
      return { ...defined, definition: defineFiltered(defined.definition, filter) }
    },
  }
}
