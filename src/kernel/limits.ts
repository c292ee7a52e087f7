// Limits and capabilities of this process.
import { readFileSync } from 'node:fs'
import { native } from './native.js'
import { check } from './errors.js'

const RLIMIT_MEMLOCK = 8 // include/uapi/asm-generic/resource.h

/** A resource limit in bytes; Infinity for none. */
export interface Limit {
  soft: number
  hard: number
}

/** How much memory this process may lock. UMEMs count against it without CAP_IPC_LOCK, BPF maps before 5.11. */
export function memoryLockLimit(): Limit {
  const values = new Float64Array(2)
  check(native.getrlimit(RLIMIT_MEMLOCK, values), 'getrlimit', { about: 'RLIMIT_MEMLOCK' })
  return { soft: values[0], hard: values[1] }
}

/**
 * Raises the memory lock limit as far as allowed, and says whether it is now unlimited. Refusal is not an
 * error: with CAP_IPC_LOCK, or on newer kernels, everything works without.
 */
export function raiseMemoryLockLimit(): boolean {
  if (native.setrlimit(RLIMIT_MEMLOCK, Infinity, Infinity) === 0) return true
  const { hard } = memoryLockLimit()
  native.setrlimit(RLIMIT_MEMLOCK, hard, hard)
  return hard === Infinity
}

// include/uapi/linux/capability.h
const capabilityBits = {
  CAP_NET_ADMIN: 12,
  CAP_NET_RAW: 13,
  CAP_IPC_LOCK: 14,
  CAP_SYS_ADMIN: 21,
  CAP_SYS_RESOURCE: 24,
  CAP_PERFMON: 38,
  CAP_BPF: 39,
} as const

export type Capability = keyof typeof capabilityBits

/** Whether this process has the capability in effect now. */
export function hasCapability(capability: Capability): boolean {
  const status = readFileSync('/proc/self/status', 'utf8')
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`)
  return ((effective >> BigInt(capabilityBits[capability])) & 1n) === 1n
}

/** The capabilities of `wanted` that this process lacks. */
export function missingCapabilities(wanted: readonly Capability[]): Capability[] {
  return wanted.filter((capability) => !hasCapability(capability))
}
