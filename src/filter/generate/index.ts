// From the checked tree to tests, in the order in which libpcap makes them: words that move into the packet move what comes later.
import { LOAD_LENGTH, aluConstant, jumpConstant } from '../classic.js'
import type { Checked } from '../checked.js'
import { FilterError } from '../error.js'
import { Frame, OutOfCells } from './frame.js'
import { relation } from './arithmetic.js'
import { linkBroadcast, linkMulticast, linkType, llc, mac } from './link.js'
import { decnet, ipBroadcast, ipv4, ipv6, multicast, port, proto, protocol } from './network.js'
import { protochain } from './protochain.js'
import { geneve, mpls, pppoes, vlan } from './tunnel.js'
import { ETH_P_PPP_DISC } from '../numbers.js'
import { type Test, and, ask, leaf, not, or, statement } from './tests.js'
import { Unsupported } from './unsupported.js'

/** How many tests are too many for anyone: each takes an instruction at least, and the kernel takes 4096 of classic BPF. */
const MAX_TESTS = 4096

/** The tests of a filter. */
export interface Generated {
  readonly test: Test
  /** Whether they jump within: the optimizer does not understand that. */
  readonly hasJumps: boolean
  /** Whether one of them is `vlan`. */
  readonly asksForTags: boolean
}

/** Makes the tests. Throws `FilterError` for what has no sense in its place. */
export function generate(checked: Checked, expression: string): Generated {
  const frame = new Frame()
  let tests = 0
  const visit = (node: Checked): Test => {
    switch (node.kind) {
      case 'chain': {
        let test = visit(node.first)
        for (const { join, tree } of node.rest)
          test = join === 'and' ? and(test, visit(tree)) : or(test, visit(tree))
        return test
      }
      case 'not':
        return not(visit(node.tree))
      default:
        if (++tests > MAX_TESTS) {
          throw new FilterError(expression, {
            code: 'XDP_FILTER_TOO_LARGE',
            sentence: `The expression has more than ${MAX_TESTS} tests`,
            at: node.at,
          })
        }
        return located(expression, node, () => generateTest(frame, node))
    }
  }
  const test = visit(checked)
  return { test, hasJumps: frame.hasJumps, asksForTags: frame.asksForTags }
}

/** Says where in the expression what goes wrong goes wrong. */
function located<T>(expression: string, { at }: Checked, make: () => T): T {
  try {
    return make()
  } catch (error) {
    if (error instanceof Unsupported) {
      throw new FilterError(expression, { code: 'XDP_FILTER_UNSUPPORTED', sentence: error.message, at })
    }
    if (error instanceof OutOfCells) {
      const sentence = 'This needs more than the 16 cells of memory that classic BPF has'
      throw new FilterError(expression, { code: 'XDP_FILTER_TOO_LARGE', sentence, at })
    }
    throw error
  }
}

function generateTest(frame: Frame, node: Exclude<Checked, { kind: 'chain' | 'not' }>): Test {
  switch (node.kind) {
    case 'ipv4':
      return ipv4(frame, node)
    case 'ipv6':
      return ipv6(frame, node)
    case 'mac':
      return mac(frame, node.address, node.direction)
    case 'decnet':
      return decnet(frame, node)
    case 'port':
    case 'portrange':
      return port(frame, node)
    case 'proto':
      return proto(frame, node.within, node.number)
    case 'protochain':
      return protochain(frame, node.within, node.number)
    case 'protocol':
      return protocol(frame, node.protocol)
    case 'relation':
      return relation(frame, node.relation, node.left, node.right)
    case 'broadcast':
      return node.within === 'ip' ? ipBroadcast(frame) : linkBroadcast(frame)
    case 'multicast':
      return node.within === 'ether' ? linkMulticast(frame) : multicast(frame, node.within)
    case 'less':
      return not(ask([statement(LOAD_LENGTH)], '>', node.length))
    case 'greater':
      return ask([statement(LOAD_LENGTH)], '>=', node.length)
    case 'byte':
      return byte(frame, node)
    case 'encapsulation':
      return { vlan, mpls, pppoes, geneve }[node.header](frame, node.number)
    case 'pppoed':
      return linkType(frame, ETH_P_PPP_DISC)
    case 'llc':
      return llc(frame, node.control)
  }
}

function byte(frame: Frame, { offset, operator, value }: Checked & { kind: 'byte' }): Test {
  const load = frame.load('link', offset, 1)
  switch (operator) {
    case '=':
    case '>':
      return ask(load, operator, value)
    case '<':
      return not(ask(load, '>=', value))
    case '&':
    case '|':
      // libpcap loads no byte here: it takes whatever an earlier test has left in A.
      return not(leaf([statement(aluConstant(operator), value)], jumpConstant('=')))
  }
}
