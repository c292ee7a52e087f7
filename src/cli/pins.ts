// Where `xdp load` pins: what keeps a program at work on an interface; a program and its maps, where the user says.
import { mkdirSync, readlinkSync, rmdirSync, statSync } from 'node:fs'
import { BPF_FILE_SYSTEM, XdpAttachment, ensureBpfFileSystem, unpin } from '../bpf/index.js'
import { KernelError, NotFoundError, StateError, UnsupportedError, XdpError } from '../kernel/index.js'

/** The folder of what `xdp load` pins for an interface. */
export function pinFolderOf(name: string): string {
  return `${BPF_FILE_SYSTEM}/xdp/${pinName(name)}`
}

/** Names in a BPF file system have no dots (libbpf has it so too); those of interfaces (eth0.100) and maps may. */
export function pinName(name: string): string {
  return name.replaceAll(/[./]/g, '_')
}

/** The path that keeps a link of `xdp load` attached to an interface. */
export function linkPath(name: string): string {
  return `${pinFolderOf(name)}/link`
}

/**
 * The link that `xdp load` pinned for an interface; undefined when there is none. The pin of a link whose interface
 * has gone, or whose program was cut off, is removed on the way. The caller closes it.
 */
export function openPinnedLink(name: string): XdpAttachment | undefined {
  try {
    const pinned = XdpAttachment.openPinned(linkPath(name))
    if (pinned.interface === name) return pinned
    pinned.close()
    return undefined
  } catch (error) {
    if (error instanceof StateError) unpinLink(name)
    // ENODEV: it holds an interface of the same name in another network namespace.
    else if (!(error instanceof NotFoundError || (error instanceof KernelError && error.code === 'ENODEV')))
      throw error
    return undefined
  }
}

/** Takes the pin of an interface's link away, and its folder. */
export function unpinLink(name: string): void {
  unpin(linkPath(name))
  removeEmpty(pinFolderOf(name))
}

/** Something with a descriptor to pin. */
interface Pinnable {
  pin(path: string): void
}

/** Pins made together: all of them, or after `undo` none. */
export class Pins {
  readonly #made: (() => void)[] = []

  /**
   * Makes a folder in a BPF file system, with those above it. Throws `KernelError`, `XdpError` `XDP_EXISTS` where a file stands in its
   * way, `UnsupportedError` where pins would not last; `instead` says what to do then.
   */
  folder(path: string, instead?: string): void {
    if (path.startsWith(`${BPF_FILE_SYSTEM}/`) && ensureBpfFileSystem()) requireLastingMount(instead)
    try {
      const first = mkdirSync(path, { recursive: true })
      if (first !== undefined) this.#made.push(() => removeBetween(first, path))
    } catch (error) {
      const { code, errno } = error as NodeJS.ErrnoException
      if (errno === undefined) throw error
      if (code === 'EEXIST' || code === 'ENOTDIR') requireFolders(path)
      throw new KernelError('mkdir', -errno, {
        about: path,
        hint: `Pins live in a BPF file system: use a folder under ${BPF_FILE_SYSTEM}, without a dot in its name.`,
      })
    }
  }

  /** Pins an object. Throws `XdpError` `XDP_EXISTS`, `KernelError`. */
  pin(object: Pinnable, path: string): void {
    object.pin(path)
    this.#made.push(() => unpin(path))
  }

  /** What `make` answers; when it throws, everything is taken away again. */
  orUndo<T>(make: () => T): T {
    try {
      return make()
    } catch (error) {
      this.undo()
      throw error
    }
  }

  /** Takes everything away again, the last first. */
  undo(): void {
    for (const step of this.#made.splice(0).reverse()) step()
  }
}

/** Throws `XdpError` `XDP_EXISTS` where something else than a folder stands in a path. */
function requireFolders(path: string): void {
  for (let end = path.indexOf('/', 1); ; end = path.indexOf('/', end + 1)) {
    const part = end < 0 ? path : path.slice(0, end)
    const there = statSync(part, { throwIfNoEntry: false })
    if (!there) return
    if (!there.isDirectory()) {
      const hint = 'Give the path of a folder, new or not; what is pinned in its place goes with `rm`.'
      throw new XdpError('XDP_EXISTS', `${part} is not a folder`, hint)
    }
    if (end < 0) return
  }
}

// `ip netns exec` gives its command mounts of its own: a file system just mounted there, and its pins, go with the command.
function requireLastingMount(
  instead = 'Attach by netlink, without pins, or use `nsenter --net=…` in the place of `ip netns exec`.',
): void {
  const starter = mountNamespaceOf(process.ppid)
  if (starter === undefined || starter === mountNamespaceOf(process.pid)) return
  throw new UnsupportedError(
    `What is pinned under ${BPF_FILE_SYSTEM} would go with this command, which has mounts of its own`,
    instead,
  )
}

/** Undefined for a process of somebody else. */
function mountNamespaceOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/mnt`)
  } catch {
    return undefined
  }
}

function removeBetween(first: string, last: string): void {
  for (let path = last; path.startsWith(first); path = path.slice(0, path.lastIndexOf('/'))) removeEmpty(path)
}

/** Removes a folder; left alone when a pin is in it, somebody else's say. */
export function removeEmpty(path: string): void {
  try {
    rmdirSync(path)
  } catch {
    return
  }
}
