// Sums over the packet: each operand is computed into a cell of scratch memory.
import {
  LOADX_CELL,
  LOAD_CELL,
  LOAD_CONSTANT,
  LOAD_LENGTH,
  NEGATE,
  STORE,
  type Size,
  TAX,
  type Tested,
  aluX,
  jumpConstant,
  jumpX,
  loadIndirect,
} from '../classic.js'
import { type Frame, type Offset, further, intoX } from './frame.js'
import { equals } from './link.js'
import { firstFragment, protocol } from './network.js'
import { IPPROTO_ICMPV6 } from '../../packet/ipproto.js'
import { type JumpingStatement, type Test, and, leaf, not, statement } from './tests.js'
import type { Arithmetic, Relation } from '../tree.js'

/** A sum that has been computed. */
interface Sum {
  readonly statements: readonly JumpingStatement[]
  /** Where it lies. */
  readonly cell: number
  /** Whether the packet has the headers that were looked into. */
  readonly check: Test | undefined
}

/** How each relation is asked: libpcap's machine has three of them, and their opposites. */
const RELATIONS: Record<Relation, { test: Tested; opposite: boolean }> = {
  '=': { test: '=', opposite: false },
  '>': { test: '>', opposite: false },
  '>=': { test: '>=', opposite: false },
  '!=': { test: '=', opposite: true },
  '<=': { test: '>', opposite: true },
  '<': { test: '>=', opposite: true },
}

export function relation(frame: Frame, how: Relation, left: Arithmetic, right: Arithmetic): Test {
  const a = sum(frame, left)
  const b = sum(frame, right)
  const { test, opposite } = RELATIONS[how]
  const operands = [...a.statements, ...b.statements, ...intoX(b.cell), statement(LOAD_CELL, a.cell)]
  const compared =
    test === '=' ? leaf([...operands, statement(aluX('-'))], jumpConstant('=')) : leaf(operands, jumpX(test))
  frame.free(a.cell)
  frame.free(b.cell)
  const [first, ...rest] = [a.check, b.check, opposite ? not(compared) : compared].filter(
    (one) => one !== undefined,
  )
  return and(first, ...rest)
}

function sum(frame: Frame, node: Arithmetic): Sum {
  switch (node.kind) {
    case 'number':
    case 'length': {
      const cell = frame.allocate()
      const load = node.kind === 'number' ? statement(LOAD_CONSTANT, node.value) : statement(LOAD_LENGTH)
      return { statements: [load, statement(STORE, cell)], cell, check: undefined }
    }
    case 'negative': {
      const { statements, cell, check } = sum(frame, node.operand)
      const negated = [statement(LOAD_CELL, cell), statement(NEGATE), statement(STORE, cell)]
      return { statements: [...statements, ...negated], cell, check }
    }
    case 'operation': {
      const a = sum(frame, node.left)
      const b = sum(frame, node.right)
      frame.free(a.cell)
      frame.free(b.cell)
      const cell = frame.allocate()
      const statements = [
        ...a.statements,
        ...b.statements,
        statement(LOADX_CELL, b.cell),
        statement(LOAD_CELL, a.cell),
        statement(aluX(node.operator)),
        statement(STORE, cell),
      ]
      // libpcap forgets here what it knows of the right side: `1 + tcp[0] = 5` looks into any packet.
      return { statements, cell, check: a.check }
    }
    case 'load': {
      const offset = sum(frame, node.offset)
      const cell = frame.allocate()
      frame.free(offset.cell)
      const { base, statements, check } = header(frame, node.protocol, offset)
      const load = statement(loadIndirect(node.size as Size), base)
      return {
        statements: [...offset.statements, ...statements, load, statement(STORE, cell)],
        cell,
        check,
      }
    }
  }
}

/** X = the offset, from what a load counts as `base` from; and whether the packet has that header. */
function header(
  frame: Frame,
  name: (Arithmetic & { kind: 'load' })['protocol'],
  offset: Sum,
): { base: number; statements: JumpingStatement[]; check: Test | undefined } {
  const at = (place: Offset, check: Test | undefined) => ({
    base: place.constant,
    statements: place.cell === undefined ? intoX(offset.cell) : [...intoX(place.cell), ...plus(offset)],
    check,
  })
  const both = (first: Test | undefined, ...rest: Test[]): Test =>
    first ? and(first, ...rest) : and(rest[0], ...rest.slice(1))
  switch (name) {
    case 'ether':
      return at(frame.linkAt, offset.check)
    case 'tcp':
    case 'udp':
    case 'sctp':
    case 'icmp':
    case 'igmp':
    case 'igrp':
    case 'pim':
    case 'vrrp':
    case 'carp': {
      const statements = [...frame.ipv4Length(), ...plus(offset)]
      const carried = and(protocol(frame, name), firstFragment(frame))
      const inner = offset.check ? and(offset.check, carried) : carried
      return { base: frame.network.constant, statements, check: and(protocol(frame, 'ip'), inner) }
    }
    case 'icmp6': {
      const check = both(offset.check, protocol(frame, 'ip6'), equals(frame, 'network', 6, 1, IPPROTO_ICMPV6))
      return at(further(frame.network, 40), check)
    }
    default:
      return at(frame.network, both(offset.check, protocol(frame, name)))
  }
}

/** X = X + an offset */
const plus = ({ cell }: Sum): JumpingStatement[] => [
  statement(LOAD_CELL, cell),
  statement(aluX('+')),
  statement(TAX),
]
