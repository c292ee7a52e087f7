// Tests of what a link header carries, and of its addresses.
import type { Size } from '../classic.js'
import type { LlcControl } from '../checked.js'
import type { Frame, From } from './frame.js'
import { ETHERMTU, ETHER_TYPES, ETH_P_IPX, LLC_SAPS, LLC_SAP_IP, PPP_TYPES } from '../numbers.js'
import { LOADX_CELL, LOAD_CELL, aluConstant, jumpX } from '../classic.js'
import { type Test, and, ask, leaf, not, or, statement } from './tests.js'
import type { Direction } from '../tree.js'
import { Unsupported } from './unsupported.js'

/** Whether `size` bytes equal a number, all bits or those of a mask. */
export function equals(
  frame: Frame,
  from: From,
  offset: number,
  size: Size,
  value: number,
  mask = 0xffff_ffff,
): Test {
  const load = frame.load(from, offset, size)
  return ask(mask === 0xffff_ffff ? load : [...load, statement(aluConstant('&'), mask)], '=', value)
}

/** Whether bytes are these: the last first, in the largest pieces. */
function bytesEqual(frame: Frame, from: From, offset: number, bytes: Uint8Array): Test {
  const tests: Test[] = []
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  let size = bytes.length
  for (; size >= 4; size -= 4) tests.push(equals(frame, from, offset + size - 4, 4, view.getUint32(size - 4)))
  for (; size >= 2; size -= 2) tests.push(equals(frame, from, offset + size - 2, 2, view.getUint16(size - 2)))
  return and(tests[0], ...tests.slice(1))
}

/** A test for the source, the destination, either or both. */
export function eitherWay(direction: Direction, test: (side: 'src' | 'dst') => Test): Test {
  switch (direction) {
    case 'src':
    case 'dst':
      return test(direction)
    case 'src and dst':
      return and(test('src'), test('dst'))
    case 'src or dst':
      return or(test('src'), test('dst'))
  }
}

/** Whether the packet is of an EtherType (above 1500) or LLC access point. */
export function linkType(frame: Frame, type: number): Test {
  if (frame.labels > 0) return typeBehindLabels(frame, type)
  if (frame.link === 'ppp') return equals(frame, 'link type', 0, 2, PPP_TYPES.get(type) ?? type)
  return etherType(frame, type)
}

/** MPLS does not say what it carries: below the last label the first half byte tells IPv4 from IPv6. */
function typeBehindLabels(frame: Frame, type: number): Test {
  const version = type === ETHER_TYPES.ip ? 0x40 : type === ETHER_TYPES.ip6 ? 0x60 : undefined
  if (version === undefined) throw new Unsupported('Behind mpls only IPv4 and IPv6 are looked for')
  return and(equals(frame, 'network', -2, 1, 0x01, 0x01), equals(frame, 'network', 0, 1, version, 0xf0))
}

/** The type field holds a length: an 802.3 frame. */
const isLength = (frame: Frame): Test => not(ask(frame.load('link type', 0, 2), '>', ETHERMTU))

function etherType(frame: Frame, type: number): Test {
  const typed = (): Test => equals(frame, 'link type', 0, 2, type)
  switch (type) {
    case LLC_SAPS.iso:
    case LLC_SAP_IP:
    case LLC_SAPS.netbeui:
      return and(isLength(frame), equals(frame, 'payload', 0, 2, (type << 8) | type))
    case LLC_SAPS.ipx: {
      // Ethernet II, SNAP, LLC, and Novell's own frames that begin with 0xffff.
      const framed = or(
        snap(frame, 0x000000, ETH_P_IPX),
        equals(frame, 'payload', 0, 1, LLC_SAPS.ipx),
        equals(frame, 'payload', 0, 2, 0xffff),
      )
      return or(equals(frame, 'link type', 0, 2, ETH_P_IPX), and(isLength(frame), framed))
    }
    case ETHER_TYPES.atalk:
      return or(typed(), and(isLength(frame), snap(frame, 0x080007, type)))
    case ETHER_TYPES.aarp:
      return or(typed(), and(isLength(frame), snap(frame, 0x000000, type)))
    default:
      if (type > ETHERMTU) return typed()
      return and(isLength(frame), equals(frame, 'link type', 2, 1, type))
  }
}

/** LLC with a SNAP header: an organization, and a type of its. */
function snap(frame: Frame, organization: number, type: number): Test {
  const bytes = new Uint8Array(8)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, 0xaaaa_0300 | (organization >> 16))
  view.setUint16(4, organization & 0xffff)
  view.setUint16(6, type)
  return bytesEqual(frame, 'payload', 0, bytes)
}

/** Whether there is a link header at all: in a Geneve tunnel there need not be one. */
export function hasLinkHeader(frame: Frame): Test | undefined {
  if (!frame.inGeneve) return undefined
  const [link, payload] = [frame.linkAt.cell!, frame.payloadAt.cell!]
  return not(leaf([statement(LOAD_CELL, link), statement(LOADX_CELL, payload)], jumpX('=')))
}

/** Tests of link addresses are for Ethernet. */
function onEthernet(frame: Frame, test: Test, what: string): Test {
  if (frame.link !== 'ethernet') throw new Unsupported(`Behind pppoes there are no ${what}`)
  const before = hasLinkHeader(frame)
  return before ? and(before, test) : test
}

export const mac = (frame: Frame, address: Uint8Array, direction: Direction): Test =>
  onEthernet(
    frame,
    eitherWay(direction, (side) => bytesEqual(frame, 'link', side === 'src' ? 6 : 0, address)),
    'MAC addresses',
  )

export const linkBroadcast = (frame: Frame): Test =>
  onEthernet(frame, bytesEqual(frame, 'link', 0, new Uint8Array(6).fill(0xff)), 'link broadcasts')

export const linkMulticast = (frame: Frame): Test =>
  onEthernet(frame, ask(frame.load('link', 0, 1), '&', 1), 'link multicasts')

/** LLC frames, of one kind or any. */
export function llc(frame: Frame, control: LlcControl | undefined): Test {
  if (frame.link !== 'ethernet') throw new Unsupported('Behind pppoes there is no LLC')
  const framed = and(isLength(frame), not(equals(frame, 'payload', 0, 2, 0xffff)))
  if (!control) return framed
  if (control.mask === 1) return and(framed, not(ask(frame.load('payload', 2, 1), '&', 1)))
  return and(framed, equals(frame, 'payload', 2, 1, control.value, control.mask))
}
