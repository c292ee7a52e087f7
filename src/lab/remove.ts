// Finds labs in the kernel, and takes one down from whatever is left of it. There is no state file: names and aliases say it all.
import { EINVAL, ENODEV } from '../kernel/errno.js'
import { readdirSync, statSync } from 'node:fs'
import { KernelError } from '../kernel/errors.js'
import { listInterfaces } from '../kernel/interfaces.js'
import { Namespace } from '../kernel/namespace.js'
import { deleteLink, type NetlinkOptions } from '../kernel/netlink/index.js'
import { aliasOf, interfaceName, namespaceName, parseNamespaceName, type EndId } from './plan.js'

const ENDS: readonly EndId[] = ['a', 'b']

/** Removes all that is left of a lab, from this process or another. False when there was nothing. Needs root. */
export function removeLab(lab: string): boolean {
  let found = deleteHostLink(lab)
  for (const end of ENDS) {
    withNamespace(lab, end, (namespace) => {
      found = true
      // The name alone would not do: a process inside keeps the namespace, and with it the link.
      deleteIfThere(interfaceName({ name: lab, isolated: true }, end), { namespace })
    })
  }
  // End b last: it is what holds the name.
  for (const end of ENDS) found = Namespace.remove(namespaceName(lab, end)) || found
  return found
}

/** The names of the labs there are, whole or in part. */
export function listLabs(): string[] {
  const inNamespaces = Namespace.list().map((name) => parseNamespaceName(name)?.lab)
  const onHost = listInterfaces().map((link) => (link.alias === aliasOf(link.name) ? link.name : undefined))
  return [...new Set([...inNamespaces, ...onHost])].filter((name) => name !== undefined).sort()
}

/** The processes whose main thread is inside one of the lab's namespaces. */
export function listProcesses(lab: string): number[] {
  const inodes = new Set<number>()
  for (const end of ENDS) withNamespace(lab, end, (namespace) => inodes.add(namespace.inode))
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((pid) => {
      try {
        return inodes.has(statSync(`/proc/${pid}/ns/net`).ino)
      } catch {
        return false // It ended, or it is not ours to look at.
      }
    })
}

function deleteHostLink(lab: string): boolean {
  const link = listInterfaces().find(({ name, kind }) => name === lab && kind === 'veth')
  // A device that has the name but not the alias was made by someone else.
  return link?.alias === aliasOf(lab) && deleteIfThere(link.index, {})
}

function deleteIfThere(link: string | number, options: NetlinkOptions): boolean {
  try {
    deleteLink(link, options)
    return true
  } catch (error) {
    if (error instanceof KernelError && error.errno === ENODEV) return false
    throw error
  }
}

function withNamespace(lab: string, end: EndId, work: (namespace: Namespace) => void): void {
  const name = namespaceName(lab, end)
  if (!Namespace.list().includes(name)) return
  const namespace = Namespace.open(name)
  try {
    work(namespace)
  } catch (error) {
    // A name whose maker was killed before the namespace came under it.
    if (!(error instanceof KernelError && error.syscall === 'setns' && error.errno === EINVAL)) throw error
  } finally {
    namespace.close()
  }
}
