// Generic netlink: families found by name, and requests to one.
import { ENOENT, EOPNOTSUPP } from '../errno.js'
import { KernelError } from '../errors.js'
import { arrayOf, concatBytes, decodeAttributes, encodeAttributes, nested } from './codec.js'
import { NetlinkSocket, type NetlinkOptions } from './socket.js'

// include/uapi/linux/genetlink.h
const GENL_ID_CTRL = 16
const CTRL_CMD_GETFAMILY = 3
const GENL_HDRLEN = 4
const controlAttributes = {
  id: [1, 'u16'],
  name: [2, 'string'],
  version: [3, 'u32'],
  groups: [7, arrayOf(nested({ name: [1, 'string'], id: [2, 'u32'] }))],
} as const

/** A request to a family. */
export interface GenericRequest {
  command: number
  /** The uapi name, for errors: `ETHTOOL_MSG_CHANNELS_GET`. */
  name: string
  attributes: Uint8Array
  about?: string | undefined
  hint?: string | undefined
}

/** A generic netlink family with a socket to talk to it. The caller closes it. */
export class GenericFamily {
  readonly id: number
  readonly version: number
  /** Multicast groups: id by name. */
  readonly groups: ReadonlyMap<string, number>
  #socket: NetlinkSocket

  private constructor(
    socket: NetlinkSocket,
    id: number,
    version: number,
    groups: ReadonlyMap<string, number>,
  ) {
    this.#socket = socket
    this.id = id
    this.version = version
    this.groups = groups
  }

  /** Undefined when this kernel has no such family. */
  static open(name: string, options: NetlinkOptions = {}): GenericFamily | undefined {
    const socket = NetlinkSocket.open('generic', options)
    try {
      const payload = concatBytes([
        header(CTRL_CMD_GETFAMILY, 1),
        encodeAttributes(controlAttributes, { name }),
      ])
      const [message] = socket.request({
        type: GENL_ID_CTRL,
        name: 'CTRL_CMD_GETFAMILY',
        payload,
        about: name,
      })
      const family = decodeAttributes(controlAttributes, message.payload.subarray(GENL_HDRLEN))
      const groups = new Map((family.groups ?? []).map((group) => [group.name ?? '', group.id ?? 0]))
      return new GenericFamily(socket, family.id ?? 0, family.version ?? 1, groups)
    } catch (error) {
      socket.close()
      if (error instanceof KernelError && error.errno === ENOENT) return undefined
      throw error
    }
  }

  /** Opens a family for one piece of work; undefined when there is no such family or the work needs a command it lacks (EOPNOTSUPP). */
  static use<T>(name: string, options: NetlinkOptions, work: (family: GenericFamily) => T): T | undefined {
    const family = GenericFamily.open(name, options)
    try {
      return family && work(family)
    } catch (error) {
      if (error instanceof KernelError && error.errno === EOPNOTSUPP) return undefined
      throw error
    } finally {
      family?.close()
    }
  }

  /** The attributes of each answer. Throws `KernelError`. */
  request(request: GenericRequest): Uint8Array[] {
    return this.#socket
      .request(this.#envelope(request))
      .map((message) => message.payload.subarray(GENL_HDRLEN))
  }

  /** The attributes of each entry of a table. Throws `KernelError`. */
  dump(request: GenericRequest): Uint8Array[] {
    return this.#socket.dump(this.#envelope(request)).map((message) => message.payload.subarray(GENL_HDRLEN))
  }

  close(): void {
    this.#socket.close()
  }

  #envelope({ command, name, attributes, about, hint }: GenericRequest) {
    return {
      type: this.id,
      name,
      about,
      hint,
      payload: concatBytes([header(command, this.version), attributes]),
    }
  }
}

// struct genlmsghdr
const header = (command: number, version: number): Uint8Array => Uint8Array.of(command, version, 0, 0)
