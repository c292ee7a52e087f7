// Tests of headers around other packets. Each moves the frame: what is asked afterwards is asked of the packet inside.
import {
  LOADX_CELL,
  LOAD_CONSTANT,
  STORE,
  STOREX,
  TAX,
  TXA,
  aluConstant,
  aluX,
  jumpConstant,
  jumpX,
  loadIndirect,
} from '../classic.js'
import { type Frame, further, intoX } from './frame.js'
import { equals, linkType } from './link.js'
import { portOver } from './network.js'
import {
  ETH_P_MPLS_UC,
  ETH_P_PPP_SES,
  ETH_P_TEB,
  GENEVE_PORT,
  PPP_MPLS_UCAST,
  VLAN_TYPES,
} from '../numbers.js'
import { type JumpingStatement, type Test, and, leaf, or, statement } from './tests.js'
import { Unsupported } from './unsupported.js'

const TAG_LENGTH = 4
const LABEL_LENGTH = 4
const PPPOE_LENGTH = 6
const PPP_TYPE_LENGTH = 2
const UDP_LENGTH = 8
const GENEVE_LENGTH = 8

/** A VLAN tag, with this id or any. */
export function vlan(frame: Frame, id: number | undefined): Test {
  if (frame.labels > 0) throw new Unsupported('Behind mpls there are no VLAN tags')
  if (frame.link !== 'ethernet') throw new Unsupported('Behind pppoes there are no VLAN tags')
  const [first, ...rest] = VLAN_TYPES.map((type) => linkType(frame, type))
  const tagged = or(first, ...rest)
  const test = id === undefined ? tagged : and(tagged, equals(frame, 'network', 0, 2, id, 0xfff))
  frame.asksForTags = true
  frame.payloadAt = further(frame.payloadAt, TAG_LENGTH)
  frame.typeAt = further(frame.typeAt, TAG_LENGTH)
  return test
}

/** An MPLS label, this one or any. */
export function mpls(frame: Frame, label: number | undefined): Test {
  const type = frame.link === 'ppp' ? PPP_MPLS_UCAST : ETH_P_MPLS_UC
  // Behind a label is another one unless the first is marked as the last.
  const labelled = frame.labels > 0 ? equals(frame, 'network', -2, 1, 0, 0x01) : linkType(frame, type)
  const test =
    label === undefined
      ? labelled
      : and(labelled, equals(frame, 'network', 0, 4, (label << 12) >>> 0, 0xffff_f000))
  frame.networkAt += LABEL_LENGTH
  frame.networkAtNoSnap += LABEL_LENGTH
  frame.labels++
  return test
}

/** A PPPoE session, this one or any. */
export function pppoes(frame: Frame, session: number | undefined): Test {
  const carried = linkType(frame, ETH_P_PPP_SES)
  const test = session === undefined ? carried : and(carried, equals(frame, 'network', 0, 4, session, 0xffff))
  frame.link = 'ppp'
  frame.linkAt = further(frame.network, PPPOE_LENGTH)
  frame.typeAt = frame.linkAt
  frame.payloadAt = further(frame.linkAt, PPP_TYPE_LENGTH)
  frame.networkAt = 0
  frame.networkAtNoSnap = 0
  frame.inGeneve = false
  return test
}

/** A Geneve tunnel (RFC 8926), of this virtual network or any, over IPv4 or IPv6. */
export function geneve(frame: Frame, network: number | undefined): Test {
  const over = (version: 'ip' | 'ip6', length: JumpingStatement[]): Test => {
    const from = version === 'ip' ? 'ipv4 payload' : 'ipv6 payload'
    const port = {
      kind: 'port',
      low: GENEVE_PORT,
      high: GENEVE_PORT,
      transport: 'udp',
      direction: 'dst',
    } as const
    return and(
      portOver(frame, version, port),
      // Version 0.
      equals(frame, from, UDP_LENGTH, 1, 0, 0xc0),
      network === undefined
        ? undefined
        : equals(frame, from, UDP_LENGTH + 4, 4, (network << 8) >>> 0, 0xffff_ff00),
      // Always true; what counts is that A is the length of the IP header from here on.
      leaf(length, jumpX('=')),
    )
  }
  const v4 = over('ip', [...frame.ipv4Length(), statement(TXA)])
  const { cell } = frame.payloadAt
  const v6Length =
    cell === undefined
      ? [statement(LOAD_CONSTANT, 40)]
      : [...intoX(cell), statement(LOAD_CONSTANT, 40), statement(aluX('+'))]
  const v6 = over('ip6', [...v6Length, statement(TAX)])
  const found = or(v4, v6)
  return and(found, leaf([...intoTunnel(frame), statement(LOAD_CONSTANT, 0)], jumpConstant('=')))
}

/**
 * Computes where the inner packet's type, payload and link header are, with the outer IP header's length in A. The inner packet
 * may be an Ethernet frame, or go without a link header: then the Geneve header's own type counts.
 */
function intoTunnel(frame: Frame): JumpingStatement[] {
  const geneveAt = frame.network.constant + UDP_LENGTH
  const typeCell = frame.allocate()
  const linkCell = frame.allocate()
  const payloadCell = frame.allocate()
  const ethernet = statement(jumpConstant('='), ETH_P_TEB)
  const inEthernet = statement(TXA)
  const done = statement(STOREX, payloadCell)
  ethernet.yes = inEthernet
  ethernet.no = done
  frame.typeAt = { constant: 0, cell: typeCell }
  frame.linkAt = { constant: 0, cell: linkCell }
  frame.payloadAt = { constant: 0, cell: payloadCell }
  frame.link = 'ethernet'
  frame.networkAt = 0
  frame.inGeneve = true
  frame.hasJumps = true
  return [
    // X = the Geneve header; its type is two bytes in.
    statement(aluConstant('+'), geneveAt),
    statement(TAX),
    statement(aluConstant('+'), 2),
    statement(STORE, typeCell),
    // Its options are counted in words of four bytes.
    statement(loadIndirect(1), 0),
    statement(aluConstant('&'), 0x3f),
    statement(aluConstant('*'), 4),
    statement(aluConstant('+'), GENEVE_LENGTH),
    statement(aluX('+')),
    statement(STORE, linkCell),
    statement(loadIndirect(2), 2),
    statement(LOADX_CELL, linkCell),
    ethernet,
    inEthernet,
    statement(aluConstant('+'), 12),
    statement(STORE, typeCell),
    statement(aluConstant('+'), 2),
    statement(TAX),
    done,
  ]
}
