// The chain of headers behind an IP header, followed until a protocol is found: the one test that loops.
import {
  JUMP,
  LOADX_CONSTANT,
  LOADX_HEADER,
  LOAD_CELL,
  STORE,
  TAX,
  TXA,
  aluConstant,
  aluX,
  jumpConstant,
  loadAbsolute,
  loadIndirect,
} from '../classic.js'
import type { Frame } from './frame.js'
import { linkType } from './link.js'
import { ETHER_TYPES } from '../numbers.js'
import {
  IPPROTO_AH,
  IPPROTO_DSTOPTS,
  IPPROTO_FRAGMENT,
  IPPROTO_HOPOPTS,
  IPPROTO_NONE,
  IPPROTO_ROUTING,
} from '../../packet/ipproto.js'
import { type JumpingStatement, type Test, and, ask, or, statement } from './tests.js'
import { Unsupported } from './unsupported.js'

const { ip: ETH_P_IP, ip6: ETH_P_IPV6 } = ETHER_TYPES

export function protochain(frame: Frame, within: 'ip' | 'ip6' | 'any', number: number): Test {
  const cell = frame.allocate()
  if (within === 'any') return or(protochain(frame, 'ip', number), protochain(frame, 'ip6', number))
  if (frame.payloadAt.cell !== undefined)
    throw new Unsupported('Behind geneve the chain of headers cannot be followed')
  frame.hasJumps = true
  const carried = linkType(frame, within === 'ip' ? ETH_P_IP : ETH_P_IPV6)
  const statements = within === 'ip' ? walkIpv4(frame, number, cell) : walkIpv6(frame, number, cell)
  frame.free(cell)
  return and(carried, ask(statements, '=', number))
}

/** A jump whose targets are set later. */
const question = (number: number): JumpingStatement => statement(jumpConstant('='), number)

function walkIpv4(frame: Frame, number: number, cell: number): JumpingStatement[] {
  const base = frame.network.constant
  const start = [statement(loadAbsolute(1), base + 9), statement(LOADX_HEADER, base)]
  return walk(start, [statement(aluConstant('+'), 0)], base, number, cell)
}

function walkIpv6(frame: Frame, number: number, cell: number): JumpingStatement[] {
  const base = frame.network.constant
  const start = [statement(loadAbsolute(1), base + 6), statement(LOADX_CONSTANT, 40)]
  const [options, ...others] = [IPPROTO_HOPOPTS, IPPROTO_DSTOPTS, IPPROTO_ROUTING, IPPROTO_FRAGMENT].map(
    question,
  )
  const questions = [options, ...others]
  // A = the next header, X = X + 8 * (1 + the length)
  const advance = [
    statement(loadIndirect(1), base),
    statement(STORE, cell),
    statement(loadIndirect(1), base + 1),
    statement(aluConstant('+'), 1),
    statement(aluConstant('*'), 8),
    statement(aluX('+')),
    statement(TAX),
    statement(LOAD_CELL, cell),
    statement(JUMP),
  ]
  questions.forEach((one, index) => {
    one.yes = advance[0]
    if (index + 1 < questions.length) one.no = questions[index + 1]
  })
  return walk(start, [...questions, ...advance], base, number, cell)
}

/** The loop: `steps` are the headers to step over, with a jump back at their end if they have any. */
function walk(
  start: JumpingStatement[],
  steps: JumpingStatement[],
  base: number,
  number: number,
  cell: number,
): JumpingStatement[] {
  const again = question(number)
  const nothing = question(IPPROTO_NONE)
  const authentication = question(IPPROTO_AH)
  const end = statement(aluConstant('+'), 0)
  // libpcap's way over an authentication header, which forgets where it was; kept for the same verdict.
  const over = [
    statement(TXA),
    statement(loadIndirect(1), base),
    statement(STORE, cell),
    statement(TXA),
    statement(aluConstant('+'), 1),
    statement(TAX),
    statement(loadIndirect(1), base),
    statement(aluConstant('+'), 2),
    statement(aluConstant('*'), 4),
    statement(TAX),
    statement(LOAD_CELL, cell),
    statement(JUMP),
  ]
  again.yes = end
  again.no = nothing
  nothing.yes = end
  nothing.no = steps[0]
  for (const step of steps) if (step.yes && !step.no) step.no = authentication
  authentication.yes = over[0]
  authentication.no = end
  for (const back of [...steps, ...over]) if (back.code === JUMP) back.yes = again
  return [...start, again, nothing, ...steps, authentication, ...over, end]
}
