// What sums over the packet may hold.
import { type CheckContext, refuse } from './check-context.js'
import type { Arithmetic } from './tree.js'
import { PROTOCOLS, type Protocol } from './words.js'

/** Protocols whose headers have a place that is known. */
const INDEXED: ReadonlySet<Protocol> = new Set(
  PROTOCOLS.slice(0, PROTOCOLS.indexOf('iso')).filter(
    (protocol) => !['ah', 'esp', 'aarp'].includes(protocol),
  ),
)

/** Throws `FilterError` for what libpcap refuses. */
export function checkArithmetic(sum: Arithmetic, context: CheckContext): void {
  switch (sum.kind) {
    case 'number':
    case 'length':
      return
    case 'negative':
      return checkArithmetic(sum.operand, context)
    case 'load':
      if (!INDEXED.has(sum.protocol)) {
        refuse(context, sum.at, 'XDP_FILTER_UNSUPPORTED', `Bytes of ${sum.protocol} cannot be looked at`, {
          hint: 'Count from a header below it: ether[…] or ip[…].',
        })
      }
      if (![1, 2, 4].includes(sum.size)) {
        refuse(context, sum.at, 'XDP_FILTER_MEANING', `${sum.size} bytes cannot be read at once`, {
          expected: '1, 2 or 4',
        })
      }
      return checkArithmetic(sum.offset, context)
    case 'operation': {
      checkArithmetic(sum.left, context)
      checkArithmetic(sum.right, context)
      // libpcap looks at the number the right side begins with, whatever comes behind it.
      const number = beginning(sum.right)
      if ((sum.operator === '/' || sum.operator === '%') && number === 0) {
        refuse(context, sum.right.at, 'XDP_FILTER_MEANING', 'This divides by zero')
      }
      if ((sum.operator === '<<' || sum.operator === '>>') && number !== undefined && number > 31) {
        refuse(context, sum.right.at, 'XDP_FILTER_MEANING', `This shifts by ${number}, more than 31 bits`)
      }
      return
    }
  }
}

/** The number that a sum begins with, if it does. */
function beginning(sum: Arithmetic): number | undefined {
  switch (sum.kind) {
    case 'number':
      return sum.value
    case 'length':
      return undefined
    case 'negative':
      return beginning(sum.operand)
    case 'load':
      return beginning(sum.offset)
    case 'operation':
      return beginning(sum.left)
  }
}
