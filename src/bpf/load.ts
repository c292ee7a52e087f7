// Loading a program past the verifier (BPF_PROG_LOAD): options, map descriptors put in place, logs, and what refusals mean.
import { OptionError, UnsupportedError } from '../kernel/errors.js'
import { raiseMemoryLockLimit } from '../kernel/limits.js'
import { kernelAtLeast } from '../kernel/version.js'
import type { Code, MapHandle, MapTarget } from './asm.js'
import { type AssembledProgram, assemble } from './assembler.js'
import { Attr, type FieldValue, PROG_LOAD } from './attr.js'
import { ATTACH_TYPES, type AttachType, PROGRAM_TYPES, type ProgramType, kernelName } from './constants.js'
import { SLOT_BYTES } from './instruction.js'
import { E2BIG, EAGAIN, EINVAL, ENOSPC, EPERM } from '../kernel/errno.js'
import { bpf, bpfError } from './syscall.js'
import { VerifierError } from './verifier.js'

// include/uapi/linux/bpf.h, flags for BPF_PROG_LOAD
const BPF_F_STRICT_ALIGNMENT = 1 << 0
const BPF_F_SLEEPABLE = 1 << 4
const BPF_F_XDP_HAS_FRAGS = 1 << 5
const BPF_F_XDP_DEV_BOUND_ONLY = 1 << 6

// kernel/bpf/verifier.c: BPF_LOG_LEVEL1, BPF_LOG_LEVEL2, BPF_LOG_STATS
const logLevels = { basic: 1, verbose: 2, statistics: 4 } as const
const FIRST_LOG_BYTES = 64 * 1024
const LAST_LOG_BYTES = 16 * 1024 * 1024

/** How much the verifier tells: the states at branches, at every instruction, or only its statistics. */
export type LogLevel = keyof typeof logLevels

/** Type information of a program, as bytes for the kernel (Documentation/bpf/btf.rst). */
export interface ProgramTypeInfo {
  /** Descriptor of the loaded BTF object. */
  fd: number
  /** `struct bpf_func_info` records. */
  functions?: { bytes: Uint8Array; recordSize: number }
  /** `struct bpf_line_info` records. */
  lines?: { bytes: Uint8Array; recordSize: number }
}

/** What to load. */
export interface LoadOptions {
  type: ProgramType
  /** Code to assemble, an assembled program, or bare bytes. */
  code: Code | AssembledProgram | Uint8Array
  /** Shown by bpftool. The kernel keeps 15 characters. */
  name?: string
  /** Default `Dual MIT/GPL`; GPL-only helpers need a compatible one. */
  license?: string
  /** Maps that the code names. */
  maps?: Readonly<Record<string, MapHandle>>
  /** Where an XDP program will run: on a device (the default), or behind a devmap (5.8) or cpumap (5.9) entry. */
  attachType?: AttachType
  /** Other types of programs: the number in `enum bpf_attach_type` that they are verified for. */
  expectedAttach?: number
  /** XDP: handles packets in several buffers (5.18). */
  frags?: boolean
  /** XDP: tied to this device, so that it may call its metadata kfuncs (6.3). */
  boundTo?: number
  /** With `boundTo`: run on the card itself. */
  offload?: boolean
  sleepable?: boolean
  strictAlignment?: boolean
  btf?: ProgramTypeInfo
  /** Descriptors that the code refers to by index: maps, and BTF of modules (5.14). */
  fdArray?: readonly number[]
  /** For programs that attach to another function: its BTF id, and the program it is in. */
  attachTo?: { btfId?: number; programFd?: number }
  /** CO-RE relocations for the kernel to apply: `struct bpf_core_relo` records (5.17). */
  relocations?: { bytes: Uint8Array; recordSize: number }
  /** Asks for the log of an accepted program too. */
  log?: LogLevel
  /** Flag bits that have no option here. */
  flags?: number
}

/** The descriptor of the loaded program, and the log if one was asked for. */
export function loadProgram(options: LoadOptions): { fd: number; log: string | undefined } {
  const program = isAssembled(options.code) ? options.code : toAssembled(options.code)
  const name = kernelName(options.name ?? '')
  const bytes = link(program, options.maps ?? {})
  const attrOf = (log?: Uint8Array, level = 0): Attr<typeof PROG_LOAD.fields> =>
    new Attr(PROG_LOAD, loadFields(options, name, bytes, log, level), log && 'log_true_size')
  let refusal: number | undefined
  if (options.log === undefined) {
    // Without a log first: it slows loading down, and a log that is too small fails a good program.
    let result = bpf('PROG_LOAD', attrOf())
    if (result === -EPERM && !kernelAtLeast(5, 11) && raiseMemoryLockLimit())
      result = bpf('PROG_LOAD', attrOf())
    if (result >= 0) return { fd: result, log: undefined }
    refusal = -result
  }
  const { result, log } = loadWithLog(attrOf, options.log === undefined ? 1 : logLevels[options.log])
  if (result >= 0) return { fd: result, log: options.log === undefined ? undefined : log }
  // With a log, ENOSPC may stand before the real reason.
  const errno = refusal ?? -result
  if (!hasReason(log) || errno === EAGAIN) throw refused(errno, options, name, bytes)
  const sources = new Map(program.lines.map(({ index, source }) => [index, source]))
  throw new VerifierError(errno, name, log, (index) => sources.get(index), bytes)
}

/**
 * Loads with a log buffer that grows until the log fits, up to 16 MiB. From 6.4 the kernel says how much it needs and keeps
 * the end of a log that is too long, so a log that could never fit costs no second load; before, the buffer doubles.
 */
function loadWithLog(
  attrOf: (log: Uint8Array, level: number) => Attr<typeof PROG_LOAD.fields>,
  level: number,
): { result: number; log: string } {
  for (let size = FIRST_LOG_BYTES; ;) {
    const buffer = new Uint8Array(size)
    const attr = attrOf(buffer, level)
    const result = bpf('PROG_LOAD', attr)
    const needed = attr.get('log_true_size')
    if (result !== -ENOSPC || size >= LAST_LOG_BYTES || needed > LAST_LOG_BYTES) {
      const end = buffer.indexOf(0)
      return { result, log: new TextDecoder().decode(end < 0 ? buffer : buffer.subarray(0, end)) }
    }
    size = Math.max(size * 2, needed)
  }
}

function loadFields(
  options: LoadOptions,
  name: string,
  bytes: Uint8Array,
  log: Uint8Array | undefined,
  level: number,
): { [K in keyof typeof PROG_LOAD.fields]?: FieldValue } {
  const { btf, attachTo, relocations } = options
  return {
    prog_type: PROGRAM_TYPES[options.type],
    insn_cnt: bytes.length / SLOT_BYTES,
    insns: bytes,
    license: new TextEncoder().encode(`${options.license ?? 'Dual MIT/GPL'}\0`),
    log_level: level,
    log_size: log?.length,
    log_buf: log,
    prog_flags: flagsOf(options),
    prog_name: name,
    prog_ifindex: options.boundTo,
    // A link is only updated to a program of the same attach type, so all XDP programs state theirs.
    expected_attach_type:
      options.type === 'xdp' ? ATTACH_TYPES[options.attachType ?? 'xdp'] : options.expectedAttach,
    prog_btf_fd: btf?.fd,
    func_info_rec_size: btf?.functions?.recordSize,
    func_info: btf?.functions?.bytes,
    func_info_cnt: btf?.functions && btf.functions.bytes.length / btf.functions.recordSize,
    line_info_rec_size: btf?.lines?.recordSize,
    line_info: btf?.lines?.bytes,
    line_info_cnt: btf?.lines && btf.lines.bytes.length / btf.lines.recordSize,
    attach_btf_id: attachTo?.btfId,
    attach_prog_fd: attachTo?.programFd,
    core_relo_cnt: relocations && relocations.bytes.length / relocations.recordSize,
    fd_array: options.fdArray && Int32Array.from(options.fdArray),
    core_relos: relocations?.bytes,
    core_relo_rec_size: relocations?.recordSize,
  }
}

function flagsOf(options: LoadOptions): number {
  let flags = options.flags ?? 0
  if (options.strictAlignment) flags |= BPF_F_STRICT_ALIGNMENT
  if (options.sleepable) flags |= BPF_F_SLEEPABLE
  if (options.frags) flags |= BPF_F_XDP_HAS_FRAGS
  if (options.boundTo !== undefined && !options.offload) flags |= BPF_F_XDP_DEV_BOUND_ONLY
  return flags
}

/** Whether the log says more than how much work it was: what fails without a reason does so before or behind the verifier. */
function hasReason(log: string): boolean {
  return log
    .split('\n')
    .some((line) => line !== '' && !/^(?:processed \d+ insns|verification time|stack depth) /.test(line))
}

/** Errors that are not the verifier's: it had nothing to say, or was not let finish. */
function refused(errno: number, options: LoadOptions, name: string, bytes: Uint8Array): Error {
  const hints: Record<number, string> = {
    [EPERM]: 'Run as root, or grant CAP_BPF and CAP_NET_ADMIN (before kernel 5.8 CAP_SYS_ADMIN).',
    [EAGAIN]: 'Signals kept interrupting the verifier; try again.',
    [E2BIG]: 'The program has too many instructions, or this kernel is too old for one of the options.',
    // The latter: kernel/bpf/core.c, __bpf_prog_map_compatible.
    [EINVAL]:
      'This kernel may be too old for one of the options or that type of program; or the program shares a map of programs, ' +
      'devices or processors with one that differs in type or frags.',
  }
  const about = `${options.type} program "${name}" of ${bytes.length / SLOT_BYTES} instructions`
  if (errno === EINVAL && options.frags && !kernelAtLeast(5, 18)) {
    return new UnsupportedError(
      'Programs for packets in several buffers need kernel 5.18',
      'Load without frags.',
    )
  }
  return bpfError('PROG_LOAD', errno, { about, hint: hints[errno] })
}

/** A copy of the code with the descriptors of its maps in place. */
function link(program: AssembledProgram, maps: Readonly<Record<string, MapHandle>>): Uint8Array {
  const bytes = program.bytes.slice()
  const view = new DataView(bytes.buffer)
  for (const { index, map } of program.references) {
    view.setInt32(index * SLOT_BYTES + 4, resolve(map, maps).fd, true)
  }
  return bytes
}

function resolve(map: MapTarget, maps: Readonly<Record<string, MapHandle>>): MapHandle {
  if (typeof map !== 'string') return map
  const found = Object.hasOwn(maps, map) ? maps[map] : undefined
  if (!found) {
    const names = Object.keys(maps)
    throw new OptionError(
      'maps',
      `The program uses a map "${map}" that was not handed in`,
      names.length > 0 ? `Handed in: ${names.join(', ')}.` : `Pass it as maps: { ${map}: … }.`,
    )
  }
  return found
}

function toAssembled(code: Code | Uint8Array): AssembledProgram {
  if (!(code instanceof Uint8Array)) return assemble(code)
  if (code.length === 0 || code.length % SLOT_BYTES !== 0) {
    throw new OptionError(
      'code',
      `A program of ${code.length} bytes is not a whole number of 8-byte instructions`,
    )
  }
  return { bytes: code, references: [], functions: [], lines: [], labels: new Map() }
}

function isAssembled(code: LoadOptions['code']): code is AssembledProgram {
  return !Array.isArray(code) && !(code instanceof Uint8Array)
}
