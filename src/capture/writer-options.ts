// How capture files are written: the options, what is refused, and how rotated files are named.
import { join, parse as parsePath } from 'node:path'
import { OptionError } from '../kernel/errors.js'
import type { InterfaceInfo, InterfaceStatistics, SectionInfo } from '../packet/pcapng-layout.js'
import { encodeInterface } from '../packet/pcapng-write.js'
import type { CaptureFormat } from './chunk.js'
import type { CaptureWriteError } from './errors.js'

/** When to go on in a new file. A file takes a packet at least. */
export interface RotateOptions {
  /** The most bytes of a file. */
  bytes?: number | undefined
  /** The most seconds between a file's first and last packet, by their time stamps. */
  seconds?: number | undefined
  /** Files that are kept: the oldest goes when there would be more. Default: all. */
  files?: number | undefined
}

export interface CaptureWriterOptions {
  /** `-` is standard output. With `rotate`, `name.pcapng` becomes `name_00001_20260131235959.pcapng`, as dumpcap has it. */
  path: string
  /** Default `pcapng`. */
  format?: CaptureFormat | undefined
  /** What pcapng says of the program and the machine. */
  section?: SectionInfo | undefined
  /** The interfaces, by the `interfaceId` of packets; pcap knows only the first. Default: one of Ethernet. */
  interfaces?: readonly InterfaceInfo[] | undefined
  /** Of the time stamps of pcap; pcapng has nanoseconds. Default `nanoseconds`. */
  resolution?: 'microseconds' | 'nanoseconds' | undefined
  rotate?: RotateOptions | undefined
  /** Bytes that may wait to be written. Default 4 MiB, at least 1.5 MiB. */
  bufferSize?: number | undefined
  /** `immediate`: as soon as the one before is written, for whoever reads along; `buffered`: in large pieces, or after 0.2 s. Default: `immediate` for `-`. */
  flush?: 'immediate' | 'buffered' | undefined
  /** Asked at the end of each pcapng file for what to write about the interfaces, by their ids; told what was written so far, in all files. */
  statistics?:
    ((written: Readonly<WriterStatistics>) => readonly (InterfaceStatistics | undefined)[]) | undefined
  /** Called once when writing fails, with what `failure` then is. */
  onError?: ((error: CaptureWriteError) => void) | undefined
}

/** What a writer counts. Taken packets are either written, lost, or still waiting. */
export interface WriterStatistics {
  /** Packets given to `write`. */
  given: number
  /** Packets that are whole in a file, or with whoever reads the pipe. */
  written: number
  /** Bytes of files. */
  bytes: number
  /** Packets not taken for want of room, and those that an error kept from being written. */
  lost: number
  /** Of those the latter. */
  failed: number
  /** Files begun. */
  files: number
}

/** As dumpcap names the files of a ring (ringbuffer.c): number and local time before the extension. */
export function numbered(path: string, number: number, time: Date): string {
  const { dir, name, ext } = parsePath(path)
  const two = (value: number) => String(value).padStart(2, '0')
  const date = `${time.getFullYear()}${two(time.getMonth() + 1)}${two(time.getDate())}`
  const clock = `${two(time.getHours())}${two(time.getMinutes())}${two(time.getSeconds())}`
  return join(dir, `${name}_${String(number).padStart(5, '0')}_${date}${clock}${ext}`)
}

/** Throws `OptionError` for what cannot be. */
export function checkOptions({ path, rotate, interfaces }: CaptureWriterOptions): void {
  if (path === '')
    throw new OptionError('path', 'A capture file needs a name', 'Use `-` for standard output.')
  const described = (interfaces ?? []).reduce((sum, info) => sum + encodeInterface(info).length, 0)
  if (described > 32768)
    throw new OptionError('interfaces', `${described} bytes describe the interfaces: too many`)
  if (interfaces?.length === 0) throw new OptionError('interfaces', 'A capture file needs an interface')
  if (!rotate) return
  if (path === '-') throw new OptionError('rotate', 'Standard output cannot be rotated', 'Write to a file.')
  for (const [name, value] of Object.entries(rotate)) {
    if (value === undefined || (Number.isFinite(value) && value > 0)) continue
    throw new OptionError(`rotate.${name}`, `rotate.${name} is ${String(value)}; it must be above 0`)
  }
  if (rotate.files !== undefined && !Number.isInteger(rotate.files)) {
    throw new OptionError('rotate.files', `rotate.files is ${rotate.files}; it must be a whole number`)
  }
}
