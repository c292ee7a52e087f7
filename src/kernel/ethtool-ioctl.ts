// What ethtool's netlink family does not tell, by the older ioctl: the driver, and its own statistics.
import { EOPNOTSUPP } from './errno.js'
import { KernelError, check } from './errors.js'
import { inNamespace } from './namespace.js'
import { native } from './native.js'
import type { NetlinkOptions } from './netlink/socket.js'

// include/uapi/linux/ethtool.h, include/uapi/linux/sockios.h
const SIOCETHTOOL = 0x8946
const ETHTOOL_GDRVINFO = 0x3
const ETHTOOL_GSTRINGS = 0x1b
const ETHTOOL_GSTATS = 0x1d
const ETHTOOL_GSSET_INFO = 0x37
const ETH_SS_STATS = 1
const ETH_GSTRING_LEN = 32
const AF_INET = 2
const SOCK_DGRAM = 2
const IFREQ_LENGTH = 40

/** Who drives a device. */
export interface DriverInfo {
  readonly driver: string
  /** The driver's version; the kernel's for drivers inside it. */
  readonly version: string
  readonly firmware: string
  /** The bus address: `0000:03:00.0`; empty for virtual devices. */
  readonly bus: string
}

/** The device's driver, or undefined when it does not say (loopback). Throws `KernelError` ENODEV. */
export function getDriverInfo(name: string, options: NetlinkOptions = {}): DriverInfo | undefined {
  return withSocket(options, (fd) => {
    const info = new Uint8Array(196) // struct ethtool_drvinfo
    if (!ask(fd, name, ETHTOOL_GDRVINFO, info)) return undefined
    return {
      driver: text(info, 4, 32),
      version: text(info, 36, 32),
      firmware: text(info, 68, 32),
      bus: text(info, 100, 32),
    }
  })
}

/** The driver's own counters by name (`ethtool -S`), exact up to 2^53; undefined when it has none. Throws `KernelError` ENODEV. */
export function getDriverStats(name: string, options: NetlinkOptions = {}): Map<string, number> | undefined {
  return withSocket(options, (fd) => {
    const count = countStrings(fd, name)
    if (count === 0) return undefined
    const strings = new Uint8Array(12 + count * ETH_GSTRING_LEN) // struct ethtool_gstrings
    new DataView(strings.buffer).setUint32(4, ETH_SS_STATS, true)
    new DataView(strings.buffer).setUint32(8, count, true)
    const stats = new Uint8Array(8 + count * 8) // struct ethtool_stats
    new DataView(stats.buffer).setUint32(4, count, true)
    if (!ask(fd, name, ETHTOOL_GSTRINGS, strings) || !ask(fd, name, ETHTOOL_GSTATS, stats)) return undefined
    const values = new DataView(stats.buffer)
    const counters = new Map<string, number>()
    for (let i = 0; i < count; i++) {
      counters.set(
        text(strings, 12 + i * ETH_GSTRING_LEN, ETH_GSTRING_LEN),
        Number(values.getBigUint64(8 + i * 8, true)),
      )
    }
    return counters
  })
}

function countStrings(fd: number, name: string): number {
  const info = new Uint8Array(20) // struct ethtool_sset_info with one count
  const view = new DataView(info.buffer)
  view.setBigUint64(8, 1n << BigInt(ETH_SS_STATS), true)
  if (!ask(fd, name, ETHTOOL_GSSET_INFO, info)) return 0
  return view.getBigUint64(8, true) === 0n ? 0 : view.getUint32(16, true)
}

// False when the driver lacks the command.
function ask(fd: number, name: string, command: number, data: Uint8Array): boolean {
  new DataView(data.buffer).setUint32(0, command, true)
  const request = new Uint8Array(IFREQ_LENGTH) // struct ifreq: name, then a pointer to the data
  const encoded = new TextEncoder().encode(name)
  if (encoded.length > 15) throw new KernelError('ioctl', 19, { about: name })
  request.set(encoded)
  const result = native.ioctl(fd, SIOCETHTOOL, request, [16, data])
  if (result === -EOPNOTSUPP) return false
  check(result, 'ioctl', { about: `SIOCETHTOOL ${name}` })
  return true
}

function text(bytes: Uint8Array, offset: number, length: number): string {
  const field = bytes.subarray(offset, offset + length)
  const end = field.indexOf(0)
  return new TextDecoder().decode(end < 0 ? field : field.subarray(0, end))
}

function withSocket<T>(options: NetlinkOptions, work: (fd: number) => T): T {
  const fd = inNamespace(options.namespace, () => native.socket(AF_INET, SOCK_DGRAM, 0))
  check(fd, 'socket')
  try {
    return work(fd)
  } finally {
    native.close(fd)
  }
}
