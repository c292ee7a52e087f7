// Names in expressions: looked up in the system's files, and nowhere else; no DNS is asked.
import { readFileSync } from 'node:fs'
import { parseIp } from '../packet/address.js'

/** Where names come from. Each gives undefined, or no addresses, for a name it does not know. */
export interface Resolver {
  /** Addresses of a host, 4 or 16 bytes each. */
  host(name: string): readonly Uint8Array[]
  /** The address of a network, as `loopback` is 127.0.0.0: 32 bits, in the machine's order. */
  network(name: string): number | undefined
  /** The MAC address of a host, 6 bytes. */
  ether(name: string): Uint8Array | undefined
  /** The port of a service over a transport protocol. */
  service(name: string, transport: 'tcp' | 'udp'): number | undefined
  /** The number of a protocol over IP. */
  protocol(name: string): number | undefined
  /** All names of a kind, of which one is suggested in the place of a misspelt one. */
  names?(kind: 'host' | 'service'): readonly string[]
}

/** Where the files are. */
export interface SystemFiles {
  hosts: string
  networks: string
  ethers: string
  services: string
  protocols: string
}

const SYSTEM_FILES: SystemFiles = {
  hosts: '/etc/hosts',
  networks: '/etc/networks',
  ethers: '/etc/ethers',
  services: '/etc/services',
  protocols: '/etc/protocols',
}

/** A resolver over files of the usual form, read when they are first needed. A file that is not there names nothing. */
export function fileResolver(files: Partial<SystemFiles> = {}): Resolver {
  const paths = { ...SYSTEM_FILES, ...files }
  const read = new Map<string, string[][]>()
  const lines = (path: string): string[][] => {
    let known = read.get(path)
    if (!known) read.set(path, (known = fieldsOf(path)))
    return known
  }
  return {
    host(name) {
      const wanted = name.toLowerCase()
      return lines(paths.hosts).flatMap(([address, ...names]) => {
        const bytes = names.some((one) => one.toLowerCase() === wanted) ? parseIp(address) : undefined
        return bytes ? [bytes] : []
      })
    },
    network(name) {
      // getnetbyname(3) of glibc, unlike that for services and protocols, does not tell small letters from capitals.
      const wanted = name.toLowerCase()
      const isNamed = ([own, , ...aliases]: readonly string[]) =>
        [own, ...aliases].some((one) => one.toLowerCase() === wanted)
      const [, address] = lines(paths.networks).find(isNamed) ?? []
      const parts = address?.split('.').map(Number)
      if (!parts || parts.length > 4 || parts.some((part) => !(part >= 0 && part <= 255))) return undefined
      return [0, 1, 2, 3].reduce((sum, at) => sum * 256 + (parts[at] ?? 0), 0)
    },
    ether(name) {
      const [address] = lines(paths.ethers).find(([, own]) => own === name) ?? []
      const parts = address?.split(':').map((part) => parseInt(part, 16))
      return parts?.length === 6 && parts.every((part) => part >= 0 && part <= 255)
        ? Uint8Array.from(parts)
        : undefined
    },
    service(name, transport) {
      for (const [own, port, ...aliases] of lines(paths.services)) {
        const [number, protocol] = port?.split('/') ?? []
        if (protocol === transport && [own, ...aliases].includes(name)) return Number(number)
      }
      return undefined
    },
    protocol(name) {
      const [, number] =
        lines(paths.protocols).find(([own, , ...aliases]) => [own, ...aliases].includes(name)) ?? []
      return number === undefined ? undefined : Number(number)
    },
    names(kind) {
      if (kind === 'host') return lines(paths.hosts).flatMap(([, ...names]) => names)
      return lines(paths.services).flatMap(([own, , ...aliases]) => [own, ...aliases])
    },
  }
}

function fieldsOf(path: string): string[][] {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch {
    return []
  }
  return text
    .split('\n')
    .map((line) => line.replace(/#.*/, '').trim())
    .filter((line) => line !== '')
    .map((line) => line.split(/\s+/))
}
