// Pinning: paths in the BPF file system that keep maps, programs and links alive (BPF_OBJ_PIN, BPF_OBJ_GET).
import { readFileSync, statSync, unlinkSync } from 'node:fs'
import { KernelError, NotFoundError, OptionError, XdpError } from '../kernel/errors.js'
import { native } from '../kernel/native.js'
import { Attr, OBJ } from './attr.js'
import { type ObjectKind, assertKind } from './info.js'
import { EEXIST, EINVAL, ENOENT, EPERM } from '../kernel/errno.js'
import { bpf, bpfError } from './syscall.js'

/** Where the BPF file system is mounted by convention. */
export const BPF_FILE_SYSTEM = '/sys/fs/bpf'

/**
 * Mounts the BPF file system at /sys/fs/bpf when it is not there. Returns whether it had to. Needs CAP_SYS_ADMIN.
 */
export function ensureBpfFileSystem(): boolean {
  if (isMounted()) return false
  const result = native.mount('bpf', BPF_FILE_SYSTEM, 'bpf', 0)
  if (result < 0) {
    throw new KernelError('mount', -result, {
      about: `the BPF file system at ${BPF_FILE_SYSTEM}`,
      hint: `Mount it as root: \`mount -t bpf bpf ${BPF_FILE_SYSTEM}\`.`,
    })
  }
  return true
}

/**
 * Gives an object a path. The path must be in a BPF file system and its directory must exist; when it is under
 * /sys/fs/bpf, that is mounted first if need be. Throws `XdpError` `XDP_EXISTS` when the path is taken.
 */
export function pinObject(fd: number, path: string): void {
  if (path.startsWith(`${BPF_FILE_SYSTEM}/`)) ensureBpfFileSystem()
  const result = bpf('OBJ_PIN', new Attr(OBJ, { pathname: cString(path), bpf_fd: fd }))
  if (result >= 0) return
  if (result === -EEXIST) {
    throw new XdpError(
      'XDP_EXISTS',
      `Something is pinned at ${path} already`,
      'Unpin it, or choose another path.',
    )
  }
  const hints: Record<number, string> = {
    [ENOENT]: 'Its directory does not exist; make it with mkdir.',
    [EPERM]: `Pins live in a BPF file system only: use a path under ${BPF_FILE_SYSTEM}.`,
    [EINVAL]: 'The last part of the path must not contain a dot.',
  }
  throw bpfError('OBJ_PIN', -result, { about: path, hint: hints[-result] })
}

/** Opens what is pinned at a path: a descriptor that the caller owns. Throws `NotFoundError`, `OptionError` for an object of another kind. */
export function getPinned(path: string, kind: ObjectKind): number {
  const result = bpf('OBJ_GET', new Attr(OBJ, { pathname: cString(path) }))
  if (result === -ENOENT) {
    throw new NotFoundError(`Nothing is pinned at ${path}`, `See \`ls ${BPF_FILE_SYSTEM}\`.`)
  }
  if (result < 0) throw bpfError('OBJ_GET', -result, { about: path })
  try {
    assertKind(result, kind, path)
    return result
  } catch (error) {
    native.close(result)
    throw error
  }
}

/** Takes a pin away. False when there was none. The object goes with its last user. */
export function unpin(path: string): boolean {
  try {
    unlinkSync(path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw error
  }
}

function isMounted(): boolean {
  if (statSync(BPF_FILE_SYSTEM, { throwIfNoEntry: false }) === undefined) return false
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .some((line) => line.split(' ')[4] === BPF_FILE_SYSTEM && / - bpf /.test(line))
}

function cString(path: string): Uint8Array {
  if (path === '' || path.includes('\0')) throw new OptionError('path', `"${path}" is no path`)
  return new TextEncoder().encode(`${path}\0`)
}
