// The packet as a program reads it: typed cursors over headers. Making one emits the bounds check that the verifier wants;
// where the packet is too short for it, the program ends with its `otherwise`.
import { ARP_AT, ARP_HLEN } from '../../packet/arp.js'
import {
  ETHERNET_AT,
  ETH_ALEN,
  ETH_HLEN,
  ETH_P_8021AD,
  ETH_P_8021Q,
  VLAN_HLEN,
} from '../../packet/ethernet.js'
import type { Verdict } from '../constants.js'
import { Ipv4, type Ipv4Options } from './ipv4.js'
import { Ipv6 } from './ipv6.js'
import { Bytes, Field, type Place, checkPlace, further, placeHere } from './memory.js'
import { type Kind, checkCount, infoOf, shown } from './kinds.js'
import type { Tracer, VariableKey } from './trace.js'
import { verdictNumber } from './results.js'
import { Value, operandIn } from './value.js'
import { oneStatement, programError } from './location.js'
import { Header, placeAt } from './header.js'

const verdictOf = (verdict: Verdict | undefined): bigint | undefined =>
  verdict === undefined ? undefined : verdictNumber(verdict)

/** How to read an Ethernet header. */
export interface EthernetOptions {
  /** How many VLAN tags (802.1Q, 802.1ad) to step over, if they are there. Default 0: a tag is a type like any other. */
  vlans?: 0 | 1 | 2
  /** What a frame that is too short is answered with. Default the program's `otherwise`. */
  short?: Verdict
}

/** The packet: its length, its bytes, its first header. */
export class Packet {
  readonly #tracer: Tracer

  constructor(tracer: Tracer) {
    this.#tracer = tracer
  }

  /** How many bytes there are; for packets in several buffers, those in the first. */
  get length(): Value<'u32'> {
    const { data, end } = this.#tracer.point.packet
    return new Value(this.#tracer, 'u64', this.#tracer.alu('sub', 64, end, data)).u32()
  }

  /** How many bytes there are in all buffers of the packet (xdp_get_buff_len, 5.18). */
  get fullLength(): Value<'u32'> {
    const tracer = this.#tracer
    return new Value(tracer, 'u64', tracer.call('xdp_get_buff_len', [tracer.context])).u32()
  }

  /** `length` bytes at a fixed offset. */
  bytes(offset: number, length: number, short?: Verdict): Bytes {
    checkCount('offset', offset)
    checkCount('length', length)
    const place = this.#place(offset)
    this.#tracer.needBytes(place.base, offset + length, verdictOf(short))
    return new Bytes(place, length)
  }

  /** The integer at a fixed offset. */
  field<K extends Kind>(offset: number, kind: K, short?: Verdict): Field<K> {
    return this.bytes(offset, infoOf(kind).bits / 8, short).field(0, kind)
  }

  /** `length` bytes at an offset that the program computed. Offsets above 32767 end it as a short packet does. */
  bytesAt(offset: Value<'u8'> | Value<'u16'> | Value<'u32'>, length: number, short?: Verdict): Bytes {
    const tracer = this.#tracer
    checkCount('length', length)
    if (!(offset instanceof Value)) {
      const hint = 'Use packet.bytes for an offset that is known now.'
      throw programError('offset', `${shown(offset)} is no value of the program`, hint)
    }
    const start = operandIn(tracer, offset)
    return oneStatement(() => {
      const place = placeAt(tracer, start, verdictOf(short))
      tracer.needBytes(place.base, length, verdictOf(short))
      return new Bytes(place, length)
    })
  }

  /** The Ethernet header, and the VLAN tags behind it. */
  ethernet(options: EthernetOptions = {}): Ethernet {
    const tracer = this.#tracer
    const short = verdictOf(options.short)
    const { vlans = 0 } = options
    if (![0, 1, 2].includes(vlans)) {
      throw programError('vlans', `${shown(vlans)} VLAN tags cannot be stepped over`, 'Use 0, 1 or 2.')
    }
    const place = this.#place(0)
    return oneStatement(() => {
      tracer.needBytes(place.base, ETH_HLEN, short)
      return new Ethernet(place, vlans === 0 ? undefined : walkTags(place, vlans, short))
    })
  }

  #place(offset: number): Place {
    const { packet } = this.#tracer.point
    return further(placeHere(this.#tracer, 'packet', packet.data, { packet, start: 0n }), offset)
  }
}

interface Tags {
  type: Value<'be16'>
  tci: Value<'be16'>
  count: Value<'u32'>
  /** An Ethernet header that ends where the last tag does. */
  place: Place
}

// Each tag moves the type four bytes on, so behind it stands what would be an Ethernet header four bytes further in.
function walkTags(place: Place, most: number, short: bigint | undefined): Tags {
  const { tracer } = place
  const keys = {
    base: { name: 'base' },
    type: { name: 'type' },
    tci: { name: 'tci' },
    count: { name: 'tags' },
  }
  const read = (key: VariableKey): Value<'be16'> => new Value(tracer, 'be16', tracer.readVariable(key))
  tracer.writeVariable(keys.base, place.base)
  tracer.writeVariable(keys.type, new Field(further(place, ETHERNET_AT.etherType), 'be16').operand)
  tracer.writeVariable(keys.tci, 0n)
  tracer.writeVariable(keys.count, 0n)
  const step = (tag: number): void => {
    if (tag > most) return
    const swapped = (type: number): bigint => BigInt(((type & 0xff) << 8) | (type >> 8))
    const untagged = tracer.branch('==', 32, read(keys.type).operand, swapped(ETH_P_8021Q))
    const first = tracer.point
    tracer.moveTo(untagged)
    const neither = tracer.branch('==', 32, read(keys.type).operand, swapped(ETH_P_8021AD))
    tracer.moveTo(tracer.join([first, tracer.point]))
    const base = tracer.alu('add', 64, tracer.readVariable(keys.base), BigInt(VLAN_HLEN))
    const inner = { ...place, base }
    tracer.needBytes(base, ETH_HLEN, short)
    tracer.writeVariable(keys.base, base)
    tracer.writeVariable(keys.type, new Field(further(inner, ETHERNET_AT.etherType), 'be16').operand)
    if (tag === 1) {
      tracer.writeVariable(keys.tci, new Field(further(inner, ETHERNET_AT.etherType - 2), 'be16').operand)
    }
    tracer.writeVariable(keys.count, BigInt(tag))
    step(tag + 1)
    tracer.moveTo(tracer.join([tracer.point, neither]))
  }
  step(1)
  const count = tracer.readVariable(keys.count)
  return {
    type: read(keys.type),
    tci: read(keys.tci),
    count: new Value(tracer, 'u32', count),
    place: {
      ...place,
      base: tracer.readVariable(keys.base) as number,
      start: tracer.alu('mul', 32, count, BigInt(VLAN_HLEN)),
    },
  }
}

/** The Ethernet header. */
export class Ethernet extends Header {
  readonly #tags: Tags | undefined

  constructor(place: Place, tags?: Tags) {
    super(place)
    this.#tags = tags
  }

  get dst(): Bytes {
    return this.bytes(ETHERNET_AT.dst, ETH_ALEN)
  }
  get src(): Bytes {
    return this.bytes(ETHERNET_AT.src, ETH_ALEN)
  }
  /** What follows: behind the VLAN tags that were stepped over. */
  get type(): Value<'be16'> {
    if (!this.#tags) return this.field(ETHERNET_AT.etherType, 'be16')
    checkPlace(this.place)
    return this.#tags.type
  }
  /** How many VLAN tags were stepped over. */
  get tags(): Value<'u32'> {
    return this.#walked.count
  }
  /** The first tag's priority, DEI and id; 0 without a tag. */
  get tci(): Value<'be16'> {
    return this.#walked.tci
  }
  /** The first tag's id; 0 without a tag. */
  get vlan(): Value<'u16'> {
    return this.#walked.tci.and(0x0fff).host()
  }

  /** The IPv4 header behind it. The type is for you to test first. */
  ipv4(options: Ipv4Options = {}): Ipv4 {
    return oneStatement(() => Ipv4.at(this.#payload, options))
  }
  /** The IPv6 header behind it. The type is for you to test first. */
  ipv6(): Ipv6 {
    return oneStatement(() => Ipv6.at(this.#payload))
  }
  /** The ARP packet behind it. The type is for you to test first. */
  arp(): Arp {
    const place = this.#payload
    this.need(place, ARP_HLEN)
    return new Arp(place)
  }

  get #payload(): Place {
    return further(this.#tags?.place ?? this.place, ETH_HLEN)
  }
  get #walked(): Tags {
    if (!this.#tags)
      throw programError('vlans', 'This header was read without VLAN tags', 'Ask for ethernet({ vlans: 1 }).')
    checkPlace(this.place)
    return this.#tags
  }
}

/** An ARP packet, as for IPv4 over Ethernet. */
export class Arp extends Header {
  get hardwareType(): Field<'be16'> {
    return this.field(ARP_AT.hardwareType, 'be16')
  }
  get protocolType(): Field<'be16'> {
    return this.field(ARP_AT.protocolType, 'be16')
  }
  /** The two address lengths, 0x0604. */
  get lengths(): Field<'be16'> {
    return this.field(ARP_AT.lengths, 'be16')
  }
  get operation(): Field<'be16'> {
    return this.field(ARP_AT.operation, 'be16')
  }
  get senderMac(): Bytes {
    return this.bytes(ARP_AT.senderMac, ETH_ALEN)
  }
  get senderIp(): Field<'be32'> {
    return this.field(ARP_AT.senderIp, 'be32')
  }
  get targetMac(): Bytes {
    return this.bytes(ARP_AT.targetMac, ETH_ALEN)
  }
  get targetIp(): Field<'be32'> {
    return this.field(ARP_AT.targetIp, 'be32')
  }
}
