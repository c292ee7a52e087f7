// The map that steers packets to AF_XDP sockets.
import { defineMap } from '../bpf/builder/index.js'

/** Declares the map of sockets by queue, under the name that libxdp uses too. `queues` is the most the device can ever have. */
export function socketMap(queues: number) {
  return defineMap({ type: 'xskmap', name: 'xsks_map', maxEntries: queues })
}
