// The shipped programs that need no more than a name.
import type { XdpDefinition } from '../bpf/builder/index.js'
import { defineEveryOther } from './every-other.js'
import { defineRedirect } from './redirect.js'
import { defineDrop, definePass } from './verdict.js'

/** A program that can be chosen by name. */
export interface ShippedProgram {
  /** Half a sentence: what it does. */
  readonly summary: string
  /** Builds it; nothing is loaded. `queues` is the most queues the device can ever have. */
  readonly define: (queues: number) => XdpDefinition
}

/** The shipped programs by name. The ping responder is not among them: it needs addresses. */
export const shippedPrograms: ReadonlyMap<string, ShippedProgram> = new Map([
  ['pass', { summary: 'passes every packet to the kernel', define: definePass }],
  ['drop', { summary: 'drops every packet', define: defineDrop }],
  [
    'redirect',
    {
      summary: "gives packets to their queue's AF_XDP socket, and to the kernel while there is none",
      define: defineRedirect,
    },
  ],
  [
    'every-other',
    {
      summary: 'gives every other packet to its AF_XDP socket, and the rest and all ARP to the kernel',
      define: defineEveryOther,
    },
  ],
])
