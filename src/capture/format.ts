// Packets as text: one line each, the way tcpdump prints them.
import { LINKTYPE_ETHERNET, LINKTYPE_RAW, type PacketRecord } from '../packet/pcap-record.js'
import { printArp } from './format/arp.js'
import { addHex, addText } from './format/dump.js'
import { printIp, printIpv4, printIpv6 } from './format/ip.js'
import { Line, type FormatOptions } from './format/line.js'
import { etherTypes, tagText } from './format/names.js'
import { SequenceTable } from './format/sequences.js'
import { TextBuffer } from './format/text.js'
import { TimePrinter } from './format/time.js'

export type { FormatOptions } from './format/line.js'

/** Bytes of the text of nearly all packets. */
const TYPICAL_BYTES = 4096

/**
 * Prints packets, in the order they are given: relative sequence numbers and time differences depend on it. Never
 * throws for what a packet holds, and prints nothing of it that a terminal would act upon. Remembers 4096 connections.
 *
 * The text is tcpdump's (4.99) with -n for Ethernet, VLAN tags, ARP, IPv4, IPv6 with its extension headers, ICMP,
 * ICMPv6, IGMP, TCP, UDP, DNS and mDNS, and the first line of HTTP and SIP. It differs where tcpdump knows a protocol that is not
 * known here (the transport's line is printed then), in how it marks a packet that was cut off, and where
 * tcpdump shows nothing: the first TLS record with the server's name.
 */
export class PacketFormatter {
  readonly #options: FormatOptions
  readonly #time: TimePrinter
  readonly #line: Line
  #text: TextBuffer | undefined

  constructor(options: FormatOptions = {}) {
    this.#options = options
    this.#time = new TimePrinter(options)
    this.#line = new Line(options, new SequenceTable())
  }

  /** The text of a packet, without a line feed at its end. Several lines with `verbosity` or `dump`. */
  format(packet: PacketRecord): string {
    const text = (this.#text ??= new TextBuffer(TYPICAL_BYTES))
    text.clear()
    this.add(packet, text)
    return text.toString()
  }

  /** The same as UTF-8 behind what `text` holds: what many packets need next, and no string of it has to be kept. */
  add(packet: PacketRecord, text: TextBuffer): void {
    const { bytes, offset, length, wireLength, linkType } = packet
    const line = this.#line
    line.begin(bytes, offset + length, text)
    this.#time.print(packet, text)
    let network = offset
    if (linkType === LINKTYPE_ETHERNET) network = printEthernet(line, offset, wireLength)
    else if (linkType === LINKTYPE_RAW) printIp(line, offset, wireLength)
    else line.add(`link type ${linkType}, length ${wireLength}`)
    this.#dump(line, offset, Math.min(network, line.end))
  }

  #dump({ bytes, end, isUnknown, out: text }: Line, link: number, network: number): void {
    switch (this.#options.dump) {
      case 'hex':
        return addHex(text, bytes, network, end, false)
      case 'hex-link':
        return addHex(text, bytes, link, end, false)
      case 'both':
        return addHex(text, bytes, network, end, true)
      case 'both-link':
        return addHex(text, bytes, link, end, true)
      default:
        // What nothing here knows is shown as it is: above, it is anyway.
        if (isUnknown && !this.#options.quiet) addHex(text, bytes, network, end, true)
        if (this.#options.dump === 'ascii') addText(text, bytes, network, end)
    }
  }
}

/** Returns where the network layer begins. */
function printEthernet(line: Line, at: number, wireLength: number): number {
  if (!line.has(at, 14)) {
    line.add(' [|ether]')
    return at
  }
  const type = line.u16(at + 12)
  if (line.linkHeader) printEtherHeader(line, at, type, wireLength)
  return printEtherType(line, at, at + 14, type, wireLength)
}

function printEtherType(line: Line, frame: number, first: number, outer: number, wireLength: number): number {
  let at = first
  let type = outer
  while (type === 0x8100 || type === 0x88a8 || type === 0x9100) {
    if (!line.has(at, 4)) {
      line.add(' [|vlan]')
      return at
    }
    const tci = line.u16(at)
    type = line.u16(at + 2)
    if (line.linkHeader) {
      line.add(`${tagText(tci)}, `)
      if (type >= 0x0600) line.add(`${typeText(line, type)}, `)
    }
    at += 4
  }
  const length = wireLength - (at - frame)
  if (type === 0x0800) printIpv4(line, at, length)
  else if (type === 0x86dd) printIpv6(line, at, length)
  else if (type === 0x0806 || type === 0x8035) printArp(line, at, length)
  else {
    line.isUnknown = true
    if (!line.linkHeader) printEtherHeader(line, frame, type, wireLength)
  }
  return at
}

function printEtherHeader(line: Line, at: number, type: number, length: number): void {
  line.mac(at + 6)
  line.add(' > ')
  line.mac(at)
  line.add(', ')
  if (type < 0x0600) return line.add(`802.3, length ${type}: `)
  line.add(typeText(line, type))
  line.add(', length ')
  line.number(length)
  line.add(': ')
}

function typeText(line: Line, type: number): string {
  const name = etherTypes[type]
  const number = line.hex(type, 4)
  return line.quiet ? (name ?? `Unknown Ethertype (${number})`) : `ethertype ${name ?? 'Unknown'} (${number})`
}
