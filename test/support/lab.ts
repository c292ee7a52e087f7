// What kernel tests start from: a lab of their own, removed when the test ends, and a look at what a test left open.
import { readdirSync, readlinkSync } from 'node:fs'
import type { TestContext } from 'node:test'
import { missingCapabilities } from '../../src/kernel/limits.js'
import { Lab, type LabOptions } from '../../src/lab/index.js'
import './environment.js'

let made = 0

/** A name for a lab, link or namespace that no other test run has: at most 15 characters. */
export function uniqueName(prefix = 't'): string {
  const random = Math.random().toString(36).slice(2, 6)
  return `${prefix}${process.pid.toString(36)}${(made++).toString(36)}${random}`.slice(0, 15)
}

/** Why tests of the kernel cannot run here; false when they can. For the `skip` of a test or suite. */
export const needsRoot: string | false = (() => {
  const missing = missingCapabilities(['CAP_SYS_ADMIN', 'CAP_NET_ADMIN', 'CAP_NET_RAW'])
  return missing.length > 0 && `needs root: ${missing.join(', ')} missing`
})()

/** Makes a lab, isolated by default, that goes when the test ends, however it ends. Close sockets in hooks set after this one. */
export function createTestLab(t: TestContext, options: LabOptions = {}): Lab {
  const lab = Lab.create({ name: uniqueName(), ...options })
  t.after(() => lab.down())
  return lab
}

/** As `createTestLab`, without IPv6 (which needs an MTU of 1280): its reports would be counted with a test's own packets. */
export function createQuietLab(t: TestContext, options: LabOptions = {}): Lab {
  return createTestLab(t, { mtu: 1200, ...options })
}

// Source text: a thread that is ended while Node reads its modules leaves the file open, and nobody can close it.
const MODULE = /\.(?:js|json|map)$/

/** What the descriptors of this process point to, sorted, without modules. Equal before and after a piece of work that leaks none. */
export function openDescriptors(): string[] {
  return readdirSync('/proc/self/fd')
    .map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`)
      } catch {
        return undefined // The descriptor that read the directory.
      }
    })
    .filter((target): target is string => target !== undefined && !MODULE.test(target))
    .sort()
}

/** What this process holds open that was not in `before`. Threads may still have been ending then: less is no leak. */
export function descriptorsBeside(before: readonly string[]): string[] {
  const known = [...before]
  return openDescriptors().filter((target) => {
    const at = known.indexOf(target)
    if (at >= 0) known.splice(at, 1)
    return at < 0
  })
}
