// A piece of a capture file on its way out: whole records, so that what could not be written can be told apart.
import { viewOf } from '../packet/bytes.js'
import { PCAP_HEADER_LENGTH, PCAP_RECORD_HEADER_LENGTH } from '../packet/pcap.js'
import { BLOCK_ENHANCED_PACKET } from '../packet/pcapng-layout.js'

export type CaptureFormat = 'pcapng' | 'pcap'

/** Bytes of a file, in order. A file is one chunk or more. */
export interface Chunk {
  readonly bytes: Uint8Array
  length: number
  packets: number
  /** Bytes of it that are with the kernel already. */
  written: number
  /** The first of its file. */
  begins: boolean
  /** The last of its file. */
  ends: boolean
}

/** Of the first `written` bytes of a chunk: how many are whole records, and how many of these are packets. */
export function wholeRecords(
  chunk: Chunk,
  written: number,
  format: CaptureFormat,
): { bytes: number; packets: number } {
  const view = viewOf(chunk.bytes)
  let at = format === 'pcap' && chunk.begins ? PCAP_HEADER_LENGTH : 0
  if (at > written) return { bytes: 0, packets: 0 }
  let packets = 0
  while (at < chunk.length) {
    const size =
      format === 'pcap'
        ? PCAP_RECORD_HEADER_LENGTH + view.getUint32(at + 8, true)
        : view.getUint32(at + 4, true)
    if (at + size > written) break
    if (format === 'pcap' || view.getUint32(at, true) === BLOCK_ENHANCED_PACKET) packets++
    at += size
  }
  return { bytes: at, packets }
}
