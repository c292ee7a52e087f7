// How many receive queues a device has, from whoever knows best.
import { readFileSync, readdirSync } from 'node:fs'
import { getInterface } from '../kernel/interfaces.js'
import { getChannels, listDeviceQueues, type Channels, type NetlinkOptions } from '../kernel/netlink/index.js'

/** Receive queues of a device. */
export interface QueueCount {
  /** In use: the queues packets arrive on. At least 1. */
  readonly rx: number
  /** What the device could be set to: the size for a table indexed by queue. At least `rx`. */
  readonly maxRx: number
  /**
   * Who said so: `channels` is the driver, `sysfs` /sys/class/net, `netdev` the kernel by netlink, `link` the number of
   * queues allocated (an upper bound), `default` nobody.
   */
  readonly source: 'channels' | 'sysfs' | 'netdev' | 'link' | 'default'
}

/**
 * Counts a device's receive queues, by name or index. Never 0: a driver that tells nothing has one.
 * Throws `NotFoundError` for an unknown interface.
 */
export function countQueues(reference: string | number, options: NetlinkOptions = {}): QueueCount {
  const link = getInterface(reference, options)
  const channels = getChannels(link.index, options)
  const told = channels && queuesOfChannels(channels)
  if (told) return told
  // /sys/class/net shows the namespace it was mounted in, so it says nothing about another one.
  const inSysfs = options.namespace === undefined ? countInSysfs(link.name, link.index) : 0
  if (inSysfs > 0) return { rx: inSysfs, maxRx: Math.max(inSysfs, link.rxQueues), source: 'sysfs' }
  // Of a device that is up, by kernels from 6.8 on (net/core/netdev-genl.c: netdev_nl_queue_dump_one).
  const listed = listDeviceQueues(link.index, options)?.filter(({ type }) => type === 'rx').length ?? 0
  if (listed > 0) return { rx: listed, maxRx: Math.max(listed, link.rxQueues), source: 'netdev' }
  if (link.rxQueues > 0) return { rx: link.rxQueues, maxRx: link.rxQueues, source: 'link' }
  return { rx: 1, maxRx: 1, source: 'default' }
}

/**
 * The receive queues that a driver's channels make, undefined when it names none. A device has combined channels,
 * separate ones or both, in which case the queues are numbered through; what it does not have reads as 0 (`n/a` in
 * `ethtool -l`), and there are drivers that name no maximum, or one below what is in use.
 */
export function queuesOfChannels({
  combined,
  rx,
}: Pick<Channels, 'combined' | 'rx'>): QueueCount | undefined {
  const count = combined.count + rx.count
  if (count === 0) return undefined
  const most = combined.count > 0 && rx.count > 0 ? combined.max + rx.max : Math.max(combined.max, rx.max)
  return { rx: count, maxRx: Math.max(count, most), source: 'channels' }
}

function countInSysfs(name: string, index: number): number {
  const directory = `/sys/class/net/${name}`
  try {
    // A device of the same name in the namespace that sysfs shows is not the one that was asked about.
    if (Number(readFileSync(`${directory}/ifindex`, 'utf8')) !== index) return 0
    return readdirSync(`${directory}/queues`).filter((queue) => queue.startsWith('rx-')).length
  } catch {
    return 0
  }
}
