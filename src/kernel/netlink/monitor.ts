// What the kernel announces as it happens: neighbours, and everything that can change a packet's way.
import { kernelAtLeast } from '../version.js'
import { readNeighbourChange, type Neighbour } from './neighbour.js'
import { NetlinkSocket, type NetlinkOptions } from './socket.js'

// include/uapi/linux/rtnetlink.h: RTNLGRP_
const RTNLGRP_LINK = 1
const RTNLGRP_NEIGH = 3
const RTNLGRP_IPV4_IFADDR = 5
const RTNLGRP_IPV4_ROUTE = 7
const RTNLGRP_IPV4_RULE = 8
const RTNLGRP_IPV6_IFADDR = 9
const RTNLGRP_IPV6_ROUTE = 11
const RTNLGRP_IPV6_RULE = 19
const RTNLGRP_NEXTHOP = 32

/** Who wants to know. */
export interface NetworkChanges {
  /** The kernel learnt of a neighbour, changed its mind about it, or has `gone` and forgotten it. */
  neighbour: (neighbour: Neighbour, gone: boolean) => void
  /** A link, address, route or rule has changed: what was looked up before may be wrong. */
  routes: () => void
  /** Announcements were lost: everything may be wrong. */
  lost: () => void
}

/**
 * Follows a namespace's changes on this thread's event loop, which does not stay alive for it, until it is closed. Needs no
 * privilege. Changes of next-hop objects are among them from kernel 5.3 on.
 */
export class NetworkMonitor {
  readonly #socket: NetlinkSocket

  constructor(changes: NetworkChanges, options: NetlinkOptions = {}) {
    this.#socket = NetlinkSocket.open('route', options)
    const handlers = {
      onMessage: (message: Parameters<typeof readNeighbourChange>[0]) => {
        const change = readNeighbourChange(message)
        if (change) changes.neighbour(change.neighbour, change.gone)
        else changes.routes()
      },
      onLost: changes.lost,
    }
    const addresses = [RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR]
    const ways = [
      RTNLGRP_IPV4_ROUTE,
      RTNLGRP_IPV4_RULE,
      RTNLGRP_IPV6_ROUTE,
      RTNLGRP_IPV6_RULE,
      ...(kernelAtLeast(5, 3) ? [RTNLGRP_NEXTHOP] : []),
    ]
    try {
      this.#socket.subscribe([RTNLGRP_LINK, RTNLGRP_NEIGH, ...addresses, ...ways], handlers)
    } catch (error) {
      this.#socket.close()
      throw error
    }
  }

  /** Closing twice is harmless. */
  close(): void {
    this.#socket.close()
  }
}
