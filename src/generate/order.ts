// What a generator is asked for, and what it answers.
import type { Namespace } from '../kernel/index.js'
import type { TemplateLayout } from './program.js'

/** A packet to send copies of; without a place for a stamp it is sent as it is. */
export interface GeneratorTemplate {
  readonly bytes: Uint8Array
  readonly layout?: TemplateLayout | undefined
}

export interface GenerateOptions {
  /** The interface that the packets leave by: name or index. */
  interface: string | number
  /** Where it is. Default: where this thread is. */
  namespace?: Namespace | undefined
  /** Sent by turns. */
  templates: readonly GeneratorTemplate[]
  /**
   * Who sends. `kernel` (the default): live-frame runs, the fastest, on a thread of their own, from 10,000 packets a second on;
   * several templates change every second or quarter million packets, or when each has had its part of `count`. `socket`: an AF_XDP socket on `queue`.
   */
  by?: 'kernel' | 'socket'
  /** Packets a second, 0 for as fast as it goes. Default 0. */
  rate?: number
  /** Ends after so many packets. */
  count?: number
  /** Ends after so many seconds. One of the two, or `signal`, must be given. */
  seconds?: number
  /** Flows, told apart by the UDP source port: 1 to 16384. Default 1. */
  flows?: number
  /** Source port of the first flow, as in the templates. Default 49152. */
  firstPort?: number
  /** The stream in the templates' stamps. Default 0. */
  stream?: number
  /** For `socket`. Default 0. */
  queue?: number
  signal?: AbortSignal
  /** Called with what has been sent so far, some times a second. */
  onProgress?: (sent: Sent) => void
}

/** What was sent. */
export interface Sent {
  packets: number
  /** Without the frames' checksums. */
  bytes: number
  /** How long that took, from the first packet on. */
  seconds: number
}

/** What both ways of sending are given. */
export interface Order extends Omit<GenerateOptions, 'interface' | 'by' | 'templates'> {
  interface: string
  ifindex: number
  templates: readonly [GeneratorTemplate, ...GeneratorTemplate[]]
  rate: number
  flows: number
  firstPort: number
  stream: number
  count: number
  seconds: number
}
