// What an object leaves to the kernel: its functions and variables (.ksyms), found by their types in vmlinux.
import type { Btf } from '../btf/decode.js'
import { BPF_PSEUDO_BTF_ID, BPF_PSEUDO_KFUNC_CALL, SLOT_BYTES } from '../instruction.js'
import { essentialName } from './core-compat.js'
import { ElfError, printable } from './error.js'
import { viewOf } from './file.js'
import type { LinkedProgram } from './link.js'
import type { Poisoned } from './core.js'

/** The number of no helper: a weak function that is not there must not be called. libbpf uses the same. */
const POISON_KFUNC = 2002000000
/** Functions of the C library that compilers call by themselves. */
const library = new Set(['memcpy', 'memmove', 'memset', 'memcmp', 'bcmp', 'strlen', '__udivdi3', '__divdi3'])

/** Names in a section of externs in the object's BTF. */
function namesIn(btf: Btf | undefined, section: string): Set<string> {
  const names = new Set<string>()
  const id = btf?.find(section, 'datasec')
  const type = id === undefined ? undefined : btf!.type(id)
  if (type?.kind === 'datasec') for (const variable of type.variables) names.add(btf!.name(variable.type))
  return names
}

/**
 * Puts the kernel's functions and variables into a linked program. Weak ones that this kernel lacks have the address 0, and must
 * not be called. Throws `ElfError` for others.
 */
export function resolveExterns(linked: LinkedProgram, local: Btf | undefined, kernel: () => Btf): Poisoned {
  const poisoned: Poisoned = new Map()
  if (linked.externs.length === 0) return poisoned
  const view = viewOf(linked.bytes)
  const configuration = namesIn(local, '.kconfig')
  const symbols = namesIn(local, '.ksyms')
  const program = linked.functions[0].function
  for (const { index, symbol, kind } of linked.externs) {
    const place = { section: program.section.name, symbol: symbol.name }
    const shown = printable(symbol.name)
    if (configuration.has(symbol.name)) {
      throw new ElfError(
        `The program reads the kernel's configuration (extern "${shown}"), which is not supported`,
        place,
        'Make it a `const volatile` variable and set it with setGlobal.',
      )
    }
    if (!symbols.has(symbol.name)) {
      const hint = library.has(symbol.name)
        ? `The compiler made a call of it: use __builtin_${symbol.name.replace(/^_+/, '')} with a constant size.`
        : local === undefined
          ? 'Functions of the kernel need BTF: compile with -g.'
          : 'Declare functions of the kernel with __ksym; link several objects with `bpftool gen object`.'
      throw new ElfError(`"${shown}" is used but not defined`, place, hint)
    }
    const name = essentialName(symbol.name)
    const id = kernel().find(name, 'func') ?? (kind === 'load' ? kernel().find(name, 'var') : undefined)
    if (id === undefined && symbol.binding !== 'weak') {
      throw new ElfError(
        `This kernel has no "${shown}"`,
        place,
        'Declare it __weak and ask bpf_ksym_exists() to do without.',
      )
    }
    const at = index * SLOT_BYTES
    const dst = view.getUint8(at + 1) & 0xf
    if (kind === 'call') {
      view.setUint8(at + 1, id === undefined ? 0 : BPF_PSEUDO_KFUNC_CALL << 4)
      view.setInt16(at + 2, 0, true)
      view.setInt32(at + 4, id ?? POISON_KFUNC, true)
      if (id === undefined) poisoned.set(index, `the function ${shown}`)
    } else {
      view.setUint8(at + 1, dst | (id === undefined ? 0 : BPF_PSEUDO_BTF_ID << 4))
      view.setInt32(at + 4, id ?? 0, true)
      view.setInt32(at + 12, 0, true)
    }
  }
  return poisoned
}
