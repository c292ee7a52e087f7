// The public surface of the packet floor: `node-xdp/packet`.
export * from './address.js'
export * from './arp.js'
export * from './build.js'
export * from './bytes.js'
export * from './checksum.js'
export type { AddressInput } from './encode.js'
export * from './ethernet.js'
export * from './headers.js'
export * from './icmp.js'
export * from './ipproto.js'
export * from './ipv4.js'
export * from './ipv6.js'
export * from './l4.js'
export * from './neighbour.js'
export { CaptureDecoder } from './pcap-decoder.js'
export {
  CAPTURE_PROBLEMS,
  LINKTYPE_ETHERNET,
  LINKTYPE_RAW,
  MAX_CAPTURED_LENGTH,
  PacketRecord,
  type CaptureProblem,
  type PacketDirection,
} from './pcap-record.js'
export { PcapReader, writePcapHeader, writePcapRecord, type PcapHeader, type ReadStep } from './pcap.js'
export type { CaptureInterface, InterfaceInfo, InterfaceStatistics, SectionInfo } from './pcapng-layout.js'
export {
  PACKET_BLOCK_OVERHEAD,
  encodeInterface,
  encodeSection,
  encodeStatistics,
  packetBlockLength,
  writePacketBlock,
} from './pcapng-write.js'
export { PcapngReader } from './pcapng.js'
export * from './problem.js'
export * from './reply.js'
export * from './tcp.js'
export * from './udp.js'
