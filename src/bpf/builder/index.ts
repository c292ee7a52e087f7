// XDP programs written in TypeScript.
export { type ChecksumOptions, updateChecksum } from './checksum.js'
export { defineFunction, type FunctionDefinition, type FunctionOptions } from './functions.js'
export { createMap, defineMap, type MapDefinition, type MapOf, type MapOptions } from './maps.js'
export { Bytes, Elements, Field, type Init, type Ref } from './memory.js'
export { Arp, Ethernet, Packet, type EthernetOptions } from './packet.js'
export { Ipv4, type Ipv4Options } from './ipv4.js'
export { Ipv6, MAX_EXTENSIONS, type Ipv6TransportOptions } from './ipv6.js'
export { Icmp, Ports, Tcp, Transport, type TransportOptions, Udp } from './transport.js'
export { LoadedXdp, XdpDefinition, defineXdp, type XdpLoadOptions, type XdpOptions } from './program.js'
export { Condition, Value, Variable, type ShiftCount, type Term } from './value.js'
export type { Kind } from './kinds.js'
export { Xdp } from './xdp.js'
export {
  Local,
  Maybe,
  VerdictValue,
  type Branches,
  type LoopControl,
  type Outcome,
  type XdpResult,
} from './results.js'
