// Packets as JSON lines: one object each, with its layers from the outside in.
import type { PacketRecord } from '../packet/pcap-record.js'
import { addLayers } from './format/json-layers.js'
import { decodeLayers, type JsonLayer } from './format/layers.js'
import { Line } from './format/line.js'
import { SequenceTable } from './format/sequences.js'
import { TextBuffer } from './format/text.js'

export type { JsonLayer } from './format/layers.js'

/** One line's object. What is not known is left out. */
export interface JsonPacket {
  /** UTC with nanoseconds: `2026-01-31T23:59:59.123456789Z`; null for one that no date can be (a damaged file may say anything). */
  time: string | null
  /** Bytes captured, and on the wire. */
  length: number
  wireLength: number
  interface?: string
  direction?: 'inbound' | 'outbound'
  queue?: number
  /** The XDP verdict's number. */
  verdict?: number
  packetId?: number
  dropCount?: number
  layers: JsonLayer[]
  /** What is wrong with the packet, from `PROBLEMS` of the packet floor. */
  problem?: string
}

export interface JsonOptions {
  /** Names of interfaces, by the packets' `interfaceId`. */
  interfaces?: readonly (string | undefined)[] | undefined
}

/** The object for a packet. Never throws for what a packet holds. */
export function packetToJson(packet: PacketRecord, options: JsonOptions = {}): JsonPacket {
  const name = options.interfaces?.[packet.interfaceId]
  const { layers, problem } = decodeLayers(packet)
  return {
    time: timeText(packet),
    length: packet.length,
    wireLength: packet.wireLength,
    ...(name !== undefined && { interface: name }),
    ...(packet.direction !== 'unknown' && { direction: packet.direction }),
    ...(packet.queue >= 0 && { queue: packet.queue }),
    ...(packet.verdict >= 0 && { verdict: packet.verdict }),
    ...(packet.packetId >= 0 && { packetId: packet.packetId }),
    ...(packet.dropCount >= 0 && { dropCount: packet.dropCount }),
    layers,
    ...(problem !== undefined && { problem }),
  }
}

/** One line of text, without a line feed at its end: the same object. */
export function packetToJsonLine(packet: PacketRecord, options?: JsonOptions): string {
  scratch.clear()
  addJson(packet, scratch, options)
  return scratch.toString()
}

const scratch = new TextBuffer(4096)
const line = new Line({}, new SequenceTable(1))

/** The line as UTF-8 behind what `text` holds: no object and no string is made for what nearly all packets have. */
export function addJson(packet: PacketRecord, text: TextBuffer, options: JsonOptions = {}): void {
  const name = options.interfaces?.[packet.interfaceId]
  text.add('{"time":')
  addTime(packet, text)
  text.add(',"length":')
  text.number(packet.length)
  text.add(',"wireLength":')
  text.number(packet.wireLength)
  if (name !== undefined) text.add(`,"interface":${JSON.stringify(name)}`)
  if (packet.direction !== 'unknown') {
    text.add(',"direction":"')
    text.add(packet.direction)
    text.add('"')
  }
  addKnown(text, ',"queue":', packet.queue)
  addKnown(text, ',"verdict":', packet.verdict)
  addKnown(text, ',"packetId":', packet.packetId)
  addKnown(text, ',"dropCount":', packet.dropCount)
  text.add(',"layers":[')
  const problem = addLayers(packet, line, text)
  text.add(']')
  if (problem !== 'none') {
    text.add(',"problem":"')
    text.add(problem)
    text.add('"')
  }
  text.add('}')
}

function addKnown(text: TextBuffer, key: string, value: number): void {
  if (value < 0) return
  text.add(key)
  text.number(value)
}

/** The last second that was asked for, and its text: packets come many in a second. */
let lastSecond = NaN
let lastSecondText: string | undefined

/** Undefined beyond what a `Date` can be: the year 275760. */
function secondText(seconds: number): string | undefined {
  if (seconds !== lastSecond) {
    const date = new Date(seconds * 1000)
    lastSecondText = Number.isNaN(date.getTime()) ? undefined : date.toISOString().slice(0, -5)
    lastSecond = seconds
  }
  return lastSecondText
}

function addTime({ seconds, nanoseconds }: PacketRecord, text: TextBuffer): void {
  const second = secondText(seconds)
  if (second === undefined) return text.add('null')
  text.add('"')
  text.add(second)
  text.add('.')
  // A damaged file may say anything.
  if (nanoseconds < 1e9) text.padded(nanoseconds, 9)
  else text.number(nanoseconds)
  text.add('Z"')
}

function timeText({ seconds, nanoseconds }: PacketRecord): string | null {
  const second = secondText(seconds)
  return second === undefined ? null : `${second}.${String(nanoseconds).padStart(9, '0')}Z`
}
