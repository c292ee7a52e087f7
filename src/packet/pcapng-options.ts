// The descriptions in a pcapng file, read from their blocks: section, interface, statistics.
import { type CaptureProblem } from './pcap-record.js'
import { type TickScale, tickScale, ticksToTime, type Time } from './pcap-time.js'
import * as layout from './pcapng-layout.js'
import type { CaptureInterface, InterfaceStatistics, SectionInfo } from './pcapng-layout.js'

/** The body of a block, in `[at, end)`. */
export interface Body {
  bytes: Uint8Array
  view: DataView
  at: number
  end: number
  little: boolean
}

type Fault = Pick<CaptureProblem, 'problem' | 'detail'>
interface Option {
  code: number
  at: number
  length: number
}

/** The options in `[from, end)` of a body, or what is wrong with them. */
function options(body: Body, from: number): Option[] | Fault {
  const found: Option[] = []
  for (let at = from; at + 4 <= body.end;) {
    const code = body.view.getUint16(at, body.little)
    const length = body.view.getUint16(at + 2, body.little)
    if (code === layout.OPT_END) break
    if (at + 4 + length > body.end) {
      const detail = `Option ${code} of ${length} bytes in a block with room for ${body.end - at - 4}`
      return { problem: 'bad-option', detail }
    }
    found.push({ code, at: at + 4, length })
    at += 4 + ((length + 3) & ~3)
  }
  return found
}

const utf8 = new TextDecoder()

/** Some writers end their texts with a zero byte. */
function text({ bytes }: Body, { at, length }: Option): string {
  return utf8.decode(bytes.subarray(at, at + length)).replace(/\0+$/, '')
}

export function readSection(body: Body): SectionInfo | Fault {
  const major = body.view.getUint16(body.at + 4, body.little)
  const minor = body.view.getUint16(body.at + 6, body.little)
  // 1.2 was written by mistake and means 1.0 (the draft, section 4.1).
  if (major !== 1 || (minor !== 0 && minor !== 2)) {
    return {
      problem: 'bad-version',
      detail: `A section of version ${major}.${minor}; 1.0 is the one that is read`,
    }
  }
  const found = options(body, body.at + 16)
  if ('problem' in found) return found
  const section: SectionInfo = {}
  for (const option of found) {
    if (option.code === layout.SHB_HARDWARE) section.hardware = text(body, option)
    else if (option.code === layout.SHB_OS) section.os = text(body, option)
    else if (option.code === layout.SHB_USERAPPL) section.application = text(body, option)
    else if (option.code === layout.OPT_COMMENT) section.comment = text(body, option)
  }
  return section
}

export function readInterface(body: Body): CaptureInterface | Fault {
  const found = options(body, body.at + 8)
  if ('problem' in found) return found
  let resolution = 6
  let offset = 0
  const device: Omit<CaptureInterface, 'scale'> = {
    linkType: body.view.getUint16(body.at, body.little),
    snapLength: body.view.getUint32(body.at + 4, body.little),
  }
  for (const option of found) {
    const { code, at, length } = option
    if (code === layout.IF_NAME) device.name = text(body, option)
    else if (code === layout.IF_DESCRIPTION) device.description = text(body, option)
    else if (code === layout.IF_OS) device.os = text(body, option)
    else if (code === layout.IF_HARDWARE) device.hardware = text(body, option)
    else if (code === layout.OPT_COMMENT) device.comment = text(body, option)
    else if (code === layout.IF_MACADDR && length === 6) device.mac = body.bytes.slice(at, at + 6)
    else if (code === layout.IF_SPEED && length === 8) device.speed = u64(body, at)
    else if (code === layout.IF_TSRESOL && length >= 1) resolution = body.bytes[at]
    else if (code === layout.IF_TSOFFSET && length === 8) {
      offset = Number(body.view.getBigInt64(at, body.little))
    } else if (code === layout.IF_FILTER && length >= 1 && body.bytes[at] === 0) {
      device.filter = text(body, { code, at: at + 1, length: length - 1 })
    }
  }
  const scale = tickScale(resolution, offset)
  if (!scale)
    return { problem: 'bad-resolution', detail: `Time stamps of resolution ${resolution} (if_tsresol)` }
  return { ...device, scale }
}

export function readStatistics(body: Body, scale: TickScale): InterfaceStatistics | Fault {
  const found = options(body, body.at + 12)
  if ('problem' in found) return found
  const statistics: InterfaceStatistics & Time = { seconds: 0, nanoseconds: 0 }
  const { view, at, little } = body
  ticksToTime(view.getUint32(at + 4, little), view.getUint32(at + 8, little), scale, statistics)
  for (const option of found) {
    if (option.code === layout.OPT_COMMENT) statistics.comment = text(body, option)
    if (option.length !== 8) continue
    const value = u64(body, option.at)
    if (option.code === layout.ISB_STARTTIME) statistics.start = time(body, option.at, scale)
    else if (option.code === layout.ISB_ENDTIME) statistics.end = time(body, option.at, scale)
    else if (option.code === layout.ISB_IFRECV) statistics.received = value
    else if (option.code === layout.ISB_IFDROP) statistics.interfaceDropped = value
    else if (option.code === layout.ISB_FILTERACCEPT) statistics.accepted = value
    else if (option.code === layout.ISB_OSDROP) statistics.systemDropped = value
    else if (option.code === layout.ISB_USRDELIV) statistics.delivered = value
  }
  return statistics
}

/** A time as blocks have it: the upper word first. */
function time({ view, little }: Body, at: number, scale: TickScale): Time {
  const found: Time = { seconds: 0, nanoseconds: 0 }
  ticksToTime(view.getUint32(at, little), view.getUint32(at + 4, little), scale, found)
  return found
}

function u64({ view, little }: Body, at: number): number {
  const high = view.getUint32(little ? at + 4 : at, little)
  return high * 4294967296 + view.getUint32(little ? at : at + 4, little)
}
