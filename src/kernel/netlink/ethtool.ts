// The ethtool family: channels, rings and offload features of a device. Kernel 5.6; each function is undefined where kernel or driver lacks it.
import { OptionError } from '../errors.js'
import {
  decodeAttributes,
  encodeAttributes,
  nested,
  repeated,
  type Attributes,
  type Table,
  type Value,
} from './codec.js'
import { GenericFamily } from './generic.js'
import type { NetlinkOptions } from './socket.js'

// include/uapi/linux/ethtool_netlink.h
const ETHTOOL_MSG_STRSET_GET = 1
const ETHTOOL_MSG_FEATURES_GET = 11
const ETHTOOL_MSG_FEATURES_SET = 12
const ETHTOOL_MSG_RINGS_GET = 15
const ETHTOOL_MSG_RINGS_SET = 16
const ETHTOOL_MSG_CHANNELS_GET = 17
const ETHTOOL_MSG_CHANNELS_SET = 18
const ETHTOOL_FLAG_OMIT_REPLY = 2
const ETH_SS_FEATURES = 4 // include/uapi/linux/ethtool.h

const header = nested({ ifindex: [1, 'u32'], flags: [3, 'u32'] })
const bitset = nested({
  listOnly: [1, 'flag'],
  bits: [
    3,
    nested({ bit: [1, repeated(nested({ index: [1, 'u32'], name: [2, 'string'], on: [3, 'flag'] }))] }),
  ],
})

const channelAttributes = {
  header: [1, header],
  rxMax: [2, 'u32'],
  txMax: [3, 'u32'],
  otherMax: [4, 'u32'],
  combinedMax: [5, 'u32'],
  rx: [6, 'u32'],
  tx: [7, 'u32'],
  other: [8, 'u32'],
  combined: [9, 'u32'],
} as const
const ringAttributes = {
  header: [1, header],
  rxMax: [2, 'u32'],
  txMax: [5, 'u32'],
  rx: [6, 'u32'],
  tx: [9, 'u32'],
} as const
const featureAttributes = {
  header: [1, header],
  changeable: [2, bitset],
  wanted: [3, bitset],
  active: [4, bitset],
  neverChange: [5, bitset],
} as const
const stringAttributes = {
  header: [1, header],
  sets: [
    2,
    nested({
      set: [
        1,
        repeated(
          nested({
            id: [1, 'u32'],
            strings: [
              3,
              nested({ string: [1, repeated(nested({ index: [1, 'u32'], value: [2, 'string'] }))] }),
            ],
          }),
        ),
      ],
    }),
  ],
} as const

/** A count in use and its ceiling. 0 of 0: the device has no such thing. */
export interface Level {
  readonly count: number
  readonly max: number
}

/** A device's channels. `combined` ones receive and transmit. */
export interface Channels {
  readonly rx: Level
  readonly tx: Level
  readonly combined: Level
  readonly other: Level
}

/** The channels, or undefined when the driver does not tell (kernel 5.6). */
export function getChannels(ifindex: number, options: NetlinkOptions = {}): Channels | undefined {
  const values = get(
    ifindex,
    options,
    ETHTOOL_MSG_CHANNELS_GET,
    'ETHTOOL_MSG_CHANNELS_GET',
    channelAttributes,
  )
  return (
    values && {
      rx: level(values.rx, values.rxMax),
      tx: level(values.tx, values.txMax),
      combined: level(values.combined, values.combinedMax),
      other: level(values.other, values.otherMax),
    }
  )
}

/** Changes channel counts; false when the driver cannot. May drop packets and close AF_XDP sockets' queues. Needs CAP_NET_ADMIN. */
export function setChannels(
  ifindex: number,
  counts: { rx?: number; tx?: number; combined?: number; other?: number },
  options: NetlinkOptions = {},
): boolean {
  return set(
    ifindex,
    options,
    ETHTOOL_MSG_CHANNELS_SET,
    'ETHTOOL_MSG_CHANNELS_SET',
    channelAttributes,
    counts,
  )
}

/** Descriptor ring sizes, in descriptors. */
export interface Rings {
  readonly rx: Level
  readonly tx: Level
}

/** The hardware rings, or undefined when the driver does not tell (veth has none). Kernel 5.6. */
export function getRings(ifindex: number, options: NetlinkOptions = {}): Rings | undefined {
  const values = get(ifindex, options, ETHTOOL_MSG_RINGS_GET, 'ETHTOOL_MSG_RINGS_GET', ringAttributes)
  return values && { rx: level(values.rx, values.rxMax), tx: level(values.tx, values.txMax) }
}

/** Changes ring sizes; false when the driver cannot. May take the link down for a moment. Needs CAP_NET_ADMIN. */
export function setRings(
  ifindex: number,
  sizes: { rx?: number; tx?: number },
  options: NetlinkOptions = {},
): boolean {
  return set(ifindex, options, ETHTOOL_MSG_RINGS_SET, 'ETHTOOL_MSG_RINGS_SET', ringAttributes, sizes)
}

/** An offload feature under the kernel's name (`rx-gro`, `tx-checksum-ip-generic`), which `ethtool -k` sometimes groups. */
export interface Feature {
  readonly on: boolean
  /** False: the driver fixes it. */
  readonly changeable: boolean
  /** What was asked for; it differs from `on` while another feature forbids it. */
  readonly wanted: boolean
}

/** All features this kernel knows, for one device, by name; undefined before kernel 5.6. Throws `KernelError` ENODEV. */
export function getFeatures(ifindex: number, options: NetlinkOptions = {}): Map<string, Feature> | undefined {
  return GenericFamily.use('ethtool', options, (family) => {
    const [answer] = family.request({
      command: ETHTOOL_MSG_FEATURES_GET,
      name: 'ETHTOOL_MSG_FEATURES_GET',
      attributes: encodeAttributes(featureAttributes, { header: { ifindex } }),
      about: `interface index ${ifindex}`,
    })
    const values = decodeAttributes(featureAttributes, answer)
    const changeable = namesIn(values.changeable)
    const wanted = namesIn(values.wanted)
    const active = namesIn(values.active)
    const never = namesIn(values.neverChange)
    const feature = (name: string): Feature => ({
      on: active.has(name),
      changeable: changeable.has(name) && !never.has(name),
      wanted: wanted.has(name),
    })
    // A list names only the bits that are set; the string set names them all.
    return new Map(featureNames(family).map((name) => [name, feature(name)]))
  })
}

/**
 * Switches features on or off by name. Returns those that are not as asked afterwards, because the
 * driver or another feature forbids it; undefined before kernel 5.6. Throws `OptionError` for a name
 * the kernel does not know. Needs CAP_NET_ADMIN.
 */
export function setFeatures(
  ifindex: number,
  wanted: Readonly<Record<string, boolean>>,
  options: NetlinkOptions = {},
): string[] | undefined {
  const before = getFeatures(ifindex, options)
  if (before === undefined) return undefined
  for (const name of Object.keys(wanted)) {
    if (!before.has(name)) throw new OptionError(name, `This kernel knows no device feature "${name}"`)
  }
  const bit = Object.entries(wanted).map(([name, on]) => ({ name, on }))
  const done = set(
    ifindex,
    options,
    ETHTOOL_MSG_FEATURES_SET,
    'ETHTOOL_MSG_FEATURES_SET',
    featureAttributes,
    {
      wanted: { bits: { bit } },
    },
  )
  if (!done) return Object.keys(wanted).filter((name) => before.get(name)?.on !== wanted[name])
  const after = getFeatures(ifindex, options)
  return Object.keys(wanted).filter((name) => after?.get(name)?.on !== wanted[name])
}

// With a mask every bit it covers is named and carries its value; a list names those that are set.
function namesIn(set: Value<typeof bitset> | undefined): Set<string | undefined> {
  const bits = set?.bits?.bit ?? []
  return new Set(bits.filter((bit) => set?.listOnly || bit.on).map((bit) => bit.name))
}

function featureNames(family: GenericFamily): string[] {
  const [answer] = family.request({
    command: ETHTOOL_MSG_STRSET_GET,
    name: 'ETHTOOL_MSG_STRSET_GET',
    attributes: encodeAttributes(stringAttributes, { header: {}, sets: { set: [{ id: ETH_SS_FEATURES }] } }),
  })
  const set = decodeAttributes(stringAttributes, answer).sets?.set?.find(({ id }) => id === ETH_SS_FEATURES)
  return (set?.strings?.string ?? []).map(({ value }) => value ?? '').filter((name) => name !== '')
}

const level = (count: number | undefined, max: number | undefined): Level => ({
  count: count ?? 0,
  max: max ?? 0,
})

type WithHeader = Table & { readonly header: readonly [1, typeof header] }

function get<T extends WithHeader>(
  ifindex: number,
  options: NetlinkOptions,
  command: number,
  name: string,
  table: T,
): Attributes<T> | undefined {
  return GenericFamily.use('ethtool', options, (family) => {
    const attributes = encodeAttributes<WithHeader>(table, { header: { ifindex } })
    const [answer] = family.request({ command, name, attributes, about: `interface index ${ifindex}` })
    return decodeAttributes<T>(table, answer)
  })
}

function set<T extends WithHeader>(
  ifindex: number,
  options: NetlinkOptions,
  command: number,
  name: string,
  table: T,
  values: Attributes<T>,
): boolean {
  const done = GenericFamily.use('ethtool', options, (family) => {
    const request = { ...values, header: { ifindex, flags: ETHTOOL_FLAG_OMIT_REPLY } }
    const attributes = encodeAttributes<WithHeader>(table, request)
    family.request({ command, name, attributes, about: `interface index ${ifindex}` })
    return true
  })
  return done ?? false
}
