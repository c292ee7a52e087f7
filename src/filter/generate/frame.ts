// Where the headers of the packet are, as far as a filter's words have led into it, and how to load from them.
import {
  BPF_MEMWORDS,
  LOADX_CELL,
  LOADX_HEADER,
  type Size,
  TAX,
  aluConstant,
  aluX,
  loadAbsolute,
  loadIndirect,
} from '../classic.js'
import { type JumpingStatement, statement } from './tests.js'

/** A place in the packet: known now, or as far from what a cell holds. */
export interface Offset {
  readonly constant: number
  readonly cell?: number
}

/** What a load counts its offset from. */
export type From =
  'link' | 'link type' | 'payload' | 'network' | 'network without SNAP' | 'ipv4 payload' | 'ipv6 payload'

const ETHERNET_TYPE_AT = 12
const ETHERNET_LENGTH = 14
const IPV6_LENGTH = 40

/** Thrown when sums need more cells than there are. */
export class OutOfCells extends Error {}

/** The state of code generation: words such as `vlan` move what comes after them further into the packet. */
export class Frame {
  /** What the link header is. */
  link: 'ethernet' | 'ppp' = 'ethernet'
  linkAt: Offset = { constant: 0 }
  typeAt: Offset = { constant: ETHERNET_TYPE_AT }
  payloadAt: Offset = { constant: ETHERNET_LENGTH }
  /** From the payload to the network header: behind Ethernet, and behind LLC. */
  networkAt = 0
  networkAtNoSnap = 3
  /** How many MPLS labels lie before the network header. */
  labels = 0
  /** Whether we are in a Geneve tunnel, in which there may be no link header at all. */
  inGeneve = false
  /** Whether a test asked for VLAN tags. */
  asksForTags = false
  /** Whether statements jump among themselves, which the optimizer does not understand. */
  hasJumps = false
  readonly #used = new Array<boolean>(BPF_MEMWORDS).fill(false)
  #cell = 0

  /** A cell of scratch memory that nobody uses: the last one given back, or the next. */
  allocate(): number {
    for (let tried = 0; tried < BPF_MEMWORDS; tried++) {
      if (!this.#used[this.#cell]) {
        this.#used[this.#cell] = true
        return this.#cell
      }
      this.#cell = (this.#cell + 1) % BPF_MEMWORDS
    }
    throw new OutOfCells()
  }

  free(cell: number): void {
    this.#used[cell] = false
  }

  /** Where the network header is. */
  get network(): Offset {
    return further(this.payloadAt, this.networkAt)
  }

  /** A = `size` bytes at an offset. */
  load(from: From, offset: number, size: Size): JumpingStatement[] {
    switch (from) {
      case 'link':
        return loadFrom(this.linkAt, offset, size)
      case 'link type':
        return loadFrom(this.typeAt, offset, size)
      case 'payload':
        return loadFrom(this.payloadAt, offset, size)
      case 'network':
        return loadFrom(this.network, offset, size)
      case 'network without SNAP':
        return loadFrom(this.payloadAt, this.networkAtNoSnap + offset, size)
      case 'ipv6 payload':
        return loadFrom(this.network, IPV6_LENGTH + offset, size)
      case 'ipv4 payload':
        return [...this.ipv4Length(), statement(loadIndirect(size), this.network.constant + offset)]
    }
  }

  /** X = the length of the IPv4 header, and what the network header's place has of a variable part. */
  ipv4Length(): JumpingStatement[] {
    const { constant, cell } = this.network
    if (cell === undefined) return [statement(LOADX_HEADER, constant)]
    return [
      ...intoX(cell),
      statement(loadIndirect(1), constant),
      statement(aluConstant('&'), 0xf),
      statement(aluConstant('<<'), 2),
      statement(aluX('+')),
      statement(TAX),
    ]
  }
}

export const further = ({ constant, cell }: Offset, bytes: number): Offset => ({
  constant: constant + bytes,
  ...(cell !== undefined && { cell }),
})

/** X = what a cell holds. */
export const intoX = (cell: number): JumpingStatement[] => [statement(LOADX_CELL, cell)]

function loadFrom({ constant, cell }: Offset, offset: number, size: Size): JumpingStatement[] {
  if (cell === undefined) return [statement(loadAbsolute(size), constant + offset)]
  return [...intoX(cell), statement(loadIndirect(size), constant + offset)]
}
