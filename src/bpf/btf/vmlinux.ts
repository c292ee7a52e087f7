// The kernel's own types (/sys/kernel/btf/vmlinux, kernel 5.4 with CONFIG_DEBUG_INFO_BTF).
import { readFileSync } from 'node:fs'
import { UnsupportedError } from '../../kernel/errors.js'
import { Btf } from './decode.js'

/** Where the running kernel shows its types. */
export const VMLINUX_BTF = '/sys/kernel/btf/vmlinux'

let cached: Btf | undefined

/**
 * The types of the running kernel, read once a process: some 6 MB that stay. Throws `UnsupportedError` for a kernel built
 * without them.
 */
export function kernelBtf(): Btf {
  if (!cached) {
    let bytes: Uint8Array
    try {
      bytes = readFileSync(VMLINUX_BTF)
    } catch (cause) {
      throw new UnsupportedError(
        `This kernel does not show its types: ${VMLINUX_BTF} cannot be read`,
        'A kernel built with CONFIG_DEBUG_INFO_BTF has it.',
        { cause },
      )
    }
    cached = Btf.parse(bytes)
  }
  return cached
}
