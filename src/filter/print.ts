// Every stage of a compilation as text, for people.
import { formatIpv6 } from '../packet/address.js'
import type { Checked } from './checked.js'
import { JUMP, mnemonic } from './classic.js'
import type { Block } from './graph.js'
import { layOut } from './linear.js'
import type { Token } from './tokens.js'
import type { Arithmetic, Qualifiers, Tree, Value } from './tree.js'

export const printTokens = (tokens: readonly Token[]): string =>
  tokens
    .map(({ position, kind, text, value }) => {
      const meant = kind === 'number' && text !== `${value}` ? ` = ${value}` : ''
      return `${`${position}`.padStart(4)}  ${kind.padEnd(8)}  ${text}${meant}`.trimEnd()
    })
    .join('\n')

const indented = (lines: readonly string[]): string[] => lines.map((line) => `  ${line}`)

/** `first`, then each that follows, behind the word that joins it. */
function chain(first: string[], rest: readonly { join: string; lines: string[] }[]): string[] {
  return [...first, ...rest.flatMap(({ join, lines: [head, ...tail] }) => [`${join} ${head}`, ...tail])]
}

export const printTree = (tree: Tree | undefined): string =>
  tree ? treeLines(tree).join('\n') : 'everything'

function treeLines(tree: Tree): string[] {
  switch (tree.kind) {
    case 'chain':
      return chain(
        treeLines(tree.first),
        tree.rest.map(({ join, tree: next }) => ({ join, lines: treeLines(next) })),
      )
    case 'not':
    case 'group':
      return [tree.kind, ...indented(treeLines(tree.tree))]
    case 'qualified':
      return [`qualified ${qualifiersText(tree.qualifiers)}`, ...indented(treeLines(tree.tree))]
    case 'value':
      return [valueText(tree.value)]
    case 'protocol':
      return [`protocol ${tree.protocol}`]
    case 'relation':
      return [
        `relation ${tree.relation}`,
        ...indented(sumLines(tree.left)),
        ...indented(sumLines(tree.right)),
      ]
    case 'broadcast':
    case 'multicast':
      return [`${tree.kind} ${tree.protocol ?? ''}`.trimEnd()]
    case 'less':
    case 'greater':
      return [`${tree.kind} ${tree.length}`]
    case 'byte':
      return [`byte ${tree.offset} ${tree.operator} ${tree.value}`]
    case 'encapsulation':
      return [`${tree.header} ${tree.number ?? ''}`.trimEnd()]
    case 'pppoed':
      return ['pppoed']
    case 'llc':
      return [`llc ${tree.type ?? ''}`.trimEnd()]
  }
}

const qualifiersText = ({ protocol, direction, type }: Qualifiers): string =>
  [protocol, direction, type].filter((word) => word !== undefined).join(' ')

function valueText(value: Value): string {
  switch (value.kind) {
    case 'number':
      return `number ${value.value}`
    case 'ipv4 net':
      return `ipv4 ${value.text} mask ${value.mask}`
    case 'ipv4 prefix':
    case 'ipv6 prefix':
      return `${value.kind} ${value.text}/${value.bits}`
    default:
      return `${value.kind} ${value.text}`
  }
}

function sumLines(sum: Arithmetic): string[] {
  switch (sum.kind) {
    case 'number':
      return [`number ${sum.value}`]
    case 'length':
      return ['length']
    case 'negative':
      return ['negative', ...indented(sumLines(sum.operand))]
    case 'load':
      return [`${sum.size} of ${sum.protocol} at`, ...indented(sumLines(sum.offset))]
    case 'operation':
      return [`operation ${sum.operator}`, ...indented(sumLines(sum.left)), ...indented(sumLines(sum.right))]
  }
}

export const printChecked = (checked: Checked | undefined): string =>
  checked ? checkedLines(checked).join('\n') : 'everything'

const dotted = (word: number): string => [24, 16, 8, 0].map((shift) => (word >>> shift) & 0xff).join('.')
const hexBytes = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':')

function sixteen(words: readonly number[]): string {
  const view = new DataView(new ArrayBuffer(16))
  words.forEach((word, index) => view.setUint32(4 * index, word))
  return formatIpv6(new Uint8Array(view.buffer))
}

function checkedLines(test: Checked): string[] {
  switch (test.kind) {
    case 'chain':
      return chain(
        checkedLines(test.first),
        test.rest.map(({ join, tree }) => ({ join, lines: checkedLines(tree) })),
      )
    case 'not':
      return ['not', ...indented(checkedLines(test.tree))]
    case 'ipv4':
      return [`ipv4 ${dotted(test.address)} mask ${dotted(test.mask)}, ${test.direction}, in ${test.within}`]
    case 'ipv6':
      return [`ipv6 ${sixteen(test.address)} mask ${sixteen(test.mask)}, ${test.direction}`]
    case 'mac':
      return [`mac ${hexBytes(test.address)}, ${test.direction}`]
    case 'decnet':
      return [`decnet ${test.address >> 10}.${test.address & 0x3ff}, ${test.direction}`]
    case 'port':
    case 'portrange':
      return [
        `port ${test.low} to ${test.high}, ${test.direction}, over ${test.transport ?? 'tcp, udp or sctp'}`,
      ]
    case 'proto':
    case 'protochain':
      return [`${test.kind} ${test.number} in ${test.within}`]
    case 'protocol':
      return [`protocol ${test.protocol}`]
    case 'relation':
      return [
        `relation ${test.relation}`,
        ...indented(sumLines(test.left)),
        ...indented(sumLines(test.right)),
      ]
    case 'broadcast':
    case 'multicast':
      return [`${test.kind} of ${test.within}`]
    case 'less':
    case 'greater':
      return [`${test.kind} ${test.length}`]
    case 'byte':
      return [`byte ${test.offset} ${test.operator} ${test.value}`]
    case 'encapsulation':
      return [`${test.header} ${test.number ?? 'any'}`]
    case 'pppoed':
      return ['pppoed']
    case 'llc':
      return [
        test.control
          ? `llc control & 0x${test.control.mask.toString(16)} = 0x${test.control.value.toString(16)}`
          : 'llc',
      ]
  }
}

/** The graph, a block after the other, with the places each leads to. */
export function printGraph(root: Block): string {
  const order = layOut(root)
  const numbers = new Map(order.map((block, index) => [block, index]))
  return order
    .map(({ statements, code, k, ifTrue, ifFalse }, index) => {
      const texts = [...statements, { code, k }].map((one) =>
        one.code === JUMP ? 'ja back' : mnemonic(one.code, one.k).join(' ').trimEnd(),
      )
      const ways = ifTrue && ifFalse ? [`yes ${numbers.get(ifTrue)}, no ${numbers.get(ifFalse)}`] : []
      return [`block ${index}`, ...indented([...texts, ...ways])].join('\n')
    })
    .join('\n')
}
