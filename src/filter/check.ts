// From the syntax tree to the checked one: qualifiers handed on, names looked up, and what cannot be meant refused.
import type { Checked, LlcControl } from './checked.js'
import { checkArithmetic } from './check-arithmetic.js'
import { type CheckContext, refuse } from './check-context.js'
import { checkValue } from './check-value.js'
import type { Span } from './error.js'
import type { Encapsulation, Qualifiers, Tree } from './tree.js'
import { suggest } from './words.js'

/** Checks an expression. Throws `FilterError`. */
export function check(tree: Tree, context: CheckContext): Checked {
  return checkTree(tree, undefined, context).checked
}

/** A checked tree, and the qualifiers that a bare name behind it gets. */
interface Result {
  readonly checked: Checked
  readonly qualifiers: Qualifiers | undefined
}

function checkTree(tree: Tree, inherited: Qualifiers | undefined, context: CheckContext): Result {
  const { at } = tree
  switch (tree.kind) {
    case 'chain': {
      const first = checkTree(tree.first, inherited, context)
      let { qualifiers } = first
      const rest = tree.rest.map(({ join, tree: next }) => {
        const result = checkTree(next, qualifiers, context)
        qualifiers = result.qualifiers
        return { join, tree: result.checked }
      })
      return { checked: { kind: 'chain', first: first.checked, rest, at }, qualifiers }
    }
    case 'not': {
      const { checked, qualifiers } = checkTree(tree.tree, inherited, context)
      return { checked: { kind: 'not', tree: checked, at }, qualifiers }
    }
    case 'group':
      // What follows the parentheses goes on from before them.
      return { checked: checkTree(tree.tree, inherited, context).checked, qualifiers: inherited }
    case 'qualified':
      return checkTree(tree.tree, tree.qualifiers, context)
    case 'value': {
      if (!inherited) {
        const text = context.expression.slice(at.position, at.position + at.length)
        refuse(context, at, 'XDP_FILTER_SYNTAX', `"${text}" stands without a word that says what it is`, {
          expected: 'a word such as host, net, port or proto before it',
          suggestion: tree.value.kind === 'name' ? suggest(text) : undefined,
        })
      }
      return { checked: checkValue(tree.value, at, inherited, context), qualifiers: inherited }
    }
    default:
      return { checked: checkTest(tree, context), qualifiers: undefined }
  }
}

type Simple = Exclude<Tree, { kind: 'chain' | 'not' | 'group' | 'qualified' | 'value' }>

function checkTest(tree: Simple, context: CheckContext): Checked {
  const { at } = tree
  switch (tree.kind) {
    case 'protocol':
      if (tree.protocol === 'ether' || tree.protocol === 'radio') {
        refuse(context, at, 'XDP_FILTER_MEANING', `"${tree.protocol}" alone is no test`, {
          expected:
            tree.protocol === 'ether'
              ? 'host, proto, broadcast, multicast or [ behind it'
              : 'another protocol',
        })
      }
      return tree
    case 'relation':
      checkArithmetic(tree.left, context)
      checkArithmetic(tree.right, context)
      return tree
    case 'broadcast':
      if (tree.protocol === undefined || tree.protocol === 'ether')
        return { kind: 'broadcast', within: 'ether', at }
      if (tree.protocol === 'ip') return { kind: 'broadcast', within: 'ip', at }
      return refuse(context, at, 'XDP_FILTER_MEANING', `${tree.protocol} has no broadcasts`, {
        expected: 'ether or ip',
      })
    case 'multicast':
      if (tree.protocol === undefined || tree.protocol === 'ether')
        return { kind: 'multicast', within: 'ether', at }
      if (tree.protocol === 'ip' || tree.protocol === 'ip6')
        return { kind: 'multicast', within: tree.protocol, at }
      return refuse(context, at, 'XDP_FILTER_MEANING', `${tree.protocol} has no multicasts`, {
        expected: 'ether, ip or ip6',
      })
    case 'encapsulation':
      if (tree.number !== undefined && tree.number > LARGEST[tree.header].number) {
        const { what, number } = LARGEST[tree.header]
        refuse(context, at, 'XDP_FILTER_MEANING', `${what} ${tree.number} is more than ${number}`)
      }
      return tree
    case 'llc':
      return {
        kind: 'llc',
        control: tree.type === undefined ? undefined : llcControl(tree.type, at, context),
        at,
      }
    default:
      return tree
  }
}

const LARGEST: Record<Encapsulation, { what: string; number: number }> = {
  vlan: { what: 'A VLAN id of', number: 0xfff },
  mpls: { what: 'An MPLS label of', number: 0xf_ffff },
  pppoes: { what: 'A PPPoE session of', number: 0xffff },
  geneve: { what: 'A Geneve network of', number: 0xff_ffff },
}

/** Kinds of LLC frames by the control field's first byte (IEEE 802.2): I frames end in 0, S frames in 01, U frames in 11. */
const LLC_CONTROLS: Record<string, LlcControl> = {
  i: { mask: 0x01, value: 0x00 },
  s: { mask: 0x03, value: 0x01 },
  u: { mask: 0x03, value: 0x03 },
  rr: { mask: 0x0f, value: 0x01 },
  rnr: { mask: 0x0f, value: 0x05 },
  rej: { mask: 0x0f, value: 0x09 },
  ui: { mask: 0xef, value: 0x03 },
  ua: { mask: 0xef, value: 0x63 },
  disc: { mask: 0xef, value: 0x43 },
  dm: { mask: 0xef, value: 0x0f },
  sabme: { mask: 0xef, value: 0x6f },
  test: { mask: 0xef, value: 0xe3 },
  xid: { mask: 0xef, value: 0xaf },
  frmr: { mask: 0xef, value: 0x87 },
}

function llcControl(type: string, at: Span, context: CheckContext): LlcControl {
  const known = Object.entries(LLC_CONTROLS).find(([name]) => name === type.toLowerCase())
  if (known) return known[1]
  return refuse(context, at, 'XDP_FILTER_MEANING', `"${type}" is no type of LLC frames`, {
    expected: Object.keys(LLC_CONTROLS).join(', '),
    suggestion: suggest(type, Object.keys(LLC_CONTROLS)),
  })
}
