// Network interfaces by name: what nearly everything above asks the kernel first.
import { ENODEV } from './errno.js'
import { KernelError, NotFoundError } from './errors.js'
import { getLink, listLinks, setLink, type Link, type LinkReference } from './netlink/link.js'
import type { NetlinkOptions } from './netlink/socket.js'

/** A network interface at one moment; read it again to see changes. */
export type Interface = Link

/** Reads an interface by name or index. Throws `NotFoundError` that lists what there is. */
export function getInterface(reference: LinkReference, options: NetlinkOptions = {}): Interface {
  try {
    return getLink(reference, options)
  } catch (error) {
    if (!(error instanceof KernelError) || error.errno !== ENODEV) throw error
    throw notFound(reference, options)
  }
}

/** All interfaces of a namespace, in the order of their index. */
export function listInterfaces(options: NetlinkOptions = {}): Interface[] {
  return listLinks(options)
}

/** Switches an interface on or off. Throws `NotFoundError`, and `KernelError` EPERM without CAP_NET_ADMIN. */
export function setInterfaceUp(reference: LinkReference, up: boolean, options: NetlinkOptions = {}): void {
  try {
    setLink(reference, { up }, options)
  } catch (error) {
    if (!(error instanceof KernelError) || error.errno !== ENODEV) throw error
    throw notFound(reference, options)
  }
}

function notFound(reference: LinkReference, options: NetlinkOptions): NotFoundError {
  const names = listLinks(options).map(({ name }) => name)
  const wanted = typeof reference === 'string' ? reference : `with index ${reference}`
  const where = options.namespace ? ` in the namespace ${options.namespace.name}` : ''
  const likely = typeof reference === 'string' ? closest(reference, names) : undefined
  return new NotFoundError(
    `No interface ${wanted}${where}; there are: ${names.join(', ')}`,
    likely === undefined ? 'List them with `ip link`.' : `Did you mean ${likely}?`,
  )
}

function closest(wanted: string, names: readonly string[]): string | undefined {
  const [best] = names
    .map((name) => ({ name, distance: editDistance(wanted, name) }))
    .sort((a, b) => a.distance - b.distance)
  return best !== undefined && best.distance <= 2 && best.distance < wanted.length ? best.name : undefined
}

/** Insertions, deletions, replacements and swaps of neighbours that turn one text into the other. */
function editDistance(a: string, b: string): number {
  const rows = Array.from({ length: a.length + 1 }, (_, i) =>
    Array.from({ length: b.length + 1 }, (_, j) => i || j),
  )
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1
      rows[i][j] = Math.min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + cost)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        rows[i][j] = Math.min(rows[i][j], rows[i - 2][j - 2] + 1)
      }
    }
  }
  return rows[a.length][b.length]
}
