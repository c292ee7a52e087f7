// The netdev family: what a device can do with XDP and AF_XDP, and its queues.
import { decodeAttributes, encodeAttributes, nested } from './codec.js'
import { GenericFamily } from './generic.js'
import type { NetlinkOptions } from './socket.js'

// include/uapi/linux/netdev.h
const NETDEV_CMD_DEV_GET = 1
const NETDEV_CMD_QUEUE_GET = 10
const deviceAttributes = {
  ifindex: [1, 'u32'],
  xdpFeatures: [3, 'u64'],
  zeroCopyMaxSegments: [4, 'u32'],
  rxMetadata: [5, 'u64'],
  txMetadata: [6, 'u64'],
} as const
const queueAttributes = {
  id: [1, 'u32'],
  ifindex: [2, 'u32'],
  type: [3, 'u32'],
  napiId: [4, 'u32'],
  xsk: [7, nested({})],
} as const

// NETDEV_XDP_ACT_*, NETDEV_XDP_RX_METADATA_*, NETDEV_XSK_FLAGS_*: bit 0 first
const xdpFeatureNames = [
  'basic',
  'redirect',
  'redirect-target',
  'zero-copy',
  'hardware-offload',
  'rx-multi-buffer',
  'redirect-target-multi-buffer',
] as const
const rxMetadataNames = ['timestamp', 'hash', 'vlan-tag'] as const
const txMetadataNames = ['timestamp', 'checksum', 'launch-time'] as const

export type XdpFeature = (typeof xdpFeatureNames)[number]
export type RxMetadata = (typeof rxMetadataNames)[number]
export type TxMetadata = (typeof txMetadataNames)[number]

/** What a driver says it can do. */
export interface DeviceFeatures {
  /** Empty when the driver has no native XDP. `redirect-target`: frames may be redirected into the device (ndo_xdp_xmit) at this moment. */
  readonly xdp: readonly XdpFeature[]
  /** Fragments of one packet in zero-copy mode; 1 when it cannot do several, undefined when it has no zero copy. */
  readonly zeroCopyMaxSegments: number | undefined
  /** What `bpf_xdp_metadata_rx_*` can return. */
  readonly rxMetadata: readonly RxMetadata[]
  /** What AF_XDP TX metadata can ask for (6.8). */
  readonly txMetadata: readonly TxMetadata[]
}

/** What the device can do; undefined when the kernel cannot tell (before 6.3). Throws `KernelError` ENODEV. */
export function getDeviceFeatures(ifindex: number, options: NetlinkOptions = {}): DeviceFeatures | undefined {
  return GenericFamily.use('netdev', options, (family) => {
    const [answer] = family.request({
      command: NETDEV_CMD_DEV_GET,
      name: 'NETDEV_CMD_DEV_GET',
      attributes: encodeAttributes(deviceAttributes, { ifindex }),
      about: `interface index ${ifindex}`,
    })
    const device = decodeAttributes(deviceAttributes, answer)
    return {
      xdp: namesOf(device.xdpFeatures, xdpFeatureNames),
      zeroCopyMaxSegments: device.zeroCopyMaxSegments,
      rxMetadata: namesOf(device.rxMetadata, rxMetadataNames),
      txMetadata: namesOf(device.txMetadata, txMetadataNames),
    }
  })
}

/** A queue of a device that is up. */
export interface DeviceQueue {
  readonly type: 'rx' | 'tx'
  readonly id: number
  /** The NAPI instance that serves it, where the driver says. */
  readonly napiId: number | undefined
  /** An AF_XDP socket is bound to it in this moment (6.14; earlier kernels never say so). */
  readonly xsk: boolean
}

/** The device's queues; none while it is down. Undefined when the kernel cannot tell (before 6.8). */
export function listDeviceQueues(ifindex: number, options: NetlinkOptions = {}): DeviceQueue[] | undefined {
  return GenericFamily.use('netdev', options, (family) =>
    family
      .dump({
        command: NETDEV_CMD_QUEUE_GET,
        name: 'NETDEV_CMD_QUEUE_GET',
        attributes: encodeAttributes(queueAttributes, { ifindex }),
        about: `interface index ${ifindex}`,
      })
      .map((answer) => {
        const queue = decodeAttributes(queueAttributes, answer)
        return {
          type: queue.type === 1 ? 'tx' : 'rx',
          id: queue.id ?? 0,
          napiId: queue.napiId,
          xsk: queue.xsk !== undefined,
        }
      }),
  )
}

function namesOf<N extends string>(bits: number | bigint | undefined, names: readonly N[]): N[] {
  const set = BigInt(bits ?? 0)
  return names.filter((_, bit) => (set >> BigInt(bit)) & 1n)
}
