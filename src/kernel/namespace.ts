// Network namespaces by name, in /run/netns as iproute2 keeps them, and calls made inside one.
import { closeSync, mkdirSync, openSync, readdirSync, statSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { KernelError, NotFoundError, OptionError, XdpError, check } from './errors.js'
import { native } from './native.js'

/** Where named namespaces are kept (iproute2: NETNS_RUN_DIR). */
export const NAMESPACE_DIRECTORY = '/run/netns'

// include/uapi/linux/sched.h, include/uapi/linux/mount.h, include/uapi/linux/fs.h
const CLONE_NEWNET = 0x40000000
const MS_BIND = 0x1000
const MS_REC = 0x4000
const MS_SHARED = 0x100000
const MNT_DETACH = 2

/**
 * A network namespace, held open by a descriptor.
 *
 * A namespace belongs to a thread, so it is only ever entered for one synchronous call (`run`): a socket,
 * link or child process made inside belongs to the namespace for good, wherever it is used afterwards.
 * Needs CAP_SYS_ADMIN.
 */
export class Namespace {
  /** The name in /run/netns, or the path it was opened by. */
  readonly name: string
  #fd: number

  private constructor(name: string, fd: number) {
    this.name = name
    this.#fd = fd
  }

  /** The namespace the calling thread is in. */
  static current(): Namespace {
    return new Namespace('current', openSync('/proc/thread-self/ns/net', 'r'))
  }

  /** Opens a named namespace, or any namespace file when given a path. Throws `NotFoundError`. */
  static open(nameOrPath: string): Namespace {
    const path = nameOrPath.includes('/') ? nameOrPath : join(NAMESPACE_DIRECTORY, checkName(nameOrPath))
    try {
      return new Namespace(nameOrPath, openSync(path, 'r'))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      throw new NotFoundError(
        `No network namespace ${nameOrPath}`,
        'See `ip netns list` for those there are.',
      )
    }
  }

  /** Makes a named namespace that stays until `remove`. Throws `XdpError` `XDP_EXISTS` when the name is taken. */
  static create(name: string): Namespace {
    const path = join(NAMESPACE_DIRECTORY, checkName(name))
    shareDirectory()
    try {
      writeFileSync(path, '', { flag: 'wx', mode: 0o444 })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      throw new XdpError('XDP_EXISTS', `The network namespace ${name} exists already`)
    }
    try {
      const before = Namespace.current()
      try {
        check(native.unshare(CLONE_NEWNET), 'unshare', { about: 'a new network namespace' })
        try {
          check(native.mount('/proc/thread-self/ns/net', path, 'none', MS_BIND), 'mount', { about: path })
        } finally {
          before.#enter()
        }
      } finally {
        before.close()
      }
      return Namespace.open(name)
    } catch (error) {
      native.umount(path, MNT_DETACH)
      unlinkSync(path)
      throw error
    }
  }

  /** Removes the name. The namespace itself goes, with its devices, once no process or descriptor uses it. False when there was none. */
  static remove(name: string): boolean {
    const path = join(NAMESPACE_DIRECTORY, checkName(name))
    if (statSync(path, { throwIfNoEntry: false }) === undefined) return false
    native.umount(path, MNT_DETACH)
    unlinkSync(path)
    return true
  }

  /** The names in /run/netns. */
  static list(): string[] {
    try {
      return readdirSync(NAMESPACE_DIRECTORY).sort()
    } catch {
      return []
    }
  }

  /**
   * Runs `call` with the calling thread inside this namespace, and leaves it again. The call must be
   * synchronous; sockets, BPF links, child processes and worker threads it starts stay in the namespace.
   */
  run<T>(call: () => T): T {
    const before = Namespace.current()
    try {
      this.#enter()
      try {
        const result = call()
        if (result instanceof Promise) {
          throw new XdpError('XDP_STATE', `A call inside the namespace ${this.name} must be synchronous`)
        }
        return result
      } finally {
        before.#enter()
      }
    } finally {
      before.close()
    }
  }

  #enter(): void {
    const result = native.setns(this.#fd, CLONE_NEWNET)
    if (result < 0) throw new KernelError('setns', -result, { about: this.name })
  }

  /** The kernel's number of the namespace: equal for two handles of one namespace. */
  get inode(): number {
    return Number(statSync(`/proc/self/fd/${this.#fd}`).ino)
  }

  /** What any thread of this process can open the namespace by, as long as this handle is open. */
  get path(): string {
    return `/proc/self/fd/${this.#fd}`
  }

  /** Lets go of the descriptor. The namespace stays as long as it has a name or a user. */
  close(): void {
    if (this.#fd < 0) return
    closeSync(this.#fd)
    this.#fd = -1
  }
}

/** Runs `call` inside `namespace`, or where the thread is when none is given. */
export function inNamespace<T>(namespace: Namespace | undefined, call: () => T): T {
  return namespace ? namespace.run(call) : call()
}

function checkName(name: string): string {
  if (!/^[A-Za-z0-9_.-]{1,200}$/.test(name) || name === '.' || name === '..') {
    throw new OptionError('namespace', `"${name}" is no name for a network namespace`)
  }
  return name
}

// As `ip netns add` does: the directory is a shared mount, so that a namespace made here is seen, and a
// removed one let go, in every other mount namespace.
function shareDirectory(): void {
  mkdirSync(NAMESPACE_DIRECTORY, { recursive: true, mode: 0o755 })
  if (native.mount('', NAMESPACE_DIRECTORY, 'none', MS_SHARED | MS_REC) === 0) return
  check(native.mount(NAMESPACE_DIRECTORY, NAMESPACE_DIRECTORY, 'none', MS_BIND | MS_REC), 'mount', {
    about: NAMESPACE_DIRECTORY,
  })
  check(native.mount('', NAMESPACE_DIRECTORY, 'none', MS_SHARED | MS_REC), 'mount', {
    about: NAMESPACE_DIRECTORY,
  })
}
