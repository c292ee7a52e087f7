// The running kernel's version, and errors that say which one is needed.
import { release } from 'node:os'
import { UnsupportedError } from './errors.js'

/** A kernel version as `[major, minor]`. */
export type Version = readonly [major: number, minor: number]

/** Reads `6.18.44-something`, `5.15` and the like; undefined for anything else. */
export function parseVersion(text: string): Version | undefined {
  const match = /^(\d+)\.(\d+)/.exec(text)
  return match ? [Number(match[1]), Number(match[2])] : undefined
}

/** The running kernel's version; `[0, 0]` when its release cannot be read. */
export const kernelVersion: Version = parseVersion(release()) ?? [0, 0]

/** Whether the running kernel is at least this one. A distribution may have back-ported more: probe where a probe exists. */
export function kernelAtLeast(major: number, minor: number): boolean {
  return kernelVersion[0] > major || (kernelVersion[0] === major && kernelVersion[1] >= minor)
}

/** Throws `UnsupportedError` when the kernel is older than what `feature` needs. */
export function requireKernel(feature: string, major: number, minor: number): void {
  if (kernelAtLeast(major, minor)) return
  throw new UnsupportedError(
    `${feature} needs Linux ${major}.${minor} or newer; this is ${release()}`,
    'Boot a newer kernel, or do without.',
  )
}
