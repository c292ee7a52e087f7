// bpf(2): its commands by number, and the call with its retry.
import { EAGAIN } from '../kernel/errno.js'
import { type CallContext, KernelError } from '../kernel/errors.js'
import { type Pointers, native } from '../kernel/native.js'

/** enum bpf_cmd (include/uapi/linux/bpf.h), `BPF_` left out. */
export const COMMANDS = {
  MAP_CREATE: 0,
  MAP_LOOKUP_ELEM: 1,
  MAP_UPDATE_ELEM: 2,
  MAP_DELETE_ELEM: 3,
  MAP_GET_NEXT_KEY: 4,
  PROG_LOAD: 5,
  OBJ_PIN: 6,
  OBJ_GET: 7,
  PROG_ATTACH: 8,
  PROG_DETACH: 9,
  PROG_TEST_RUN: 10,
  PROG_GET_NEXT_ID: 11,
  MAP_GET_NEXT_ID: 12,
  PROG_GET_FD_BY_ID: 13,
  MAP_GET_FD_BY_ID: 14,
  OBJ_GET_INFO_BY_FD: 15,
  PROG_QUERY: 16,
  RAW_TRACEPOINT_OPEN: 17,
  BTF_LOAD: 18,
  BTF_GET_FD_BY_ID: 19,
  TASK_FD_QUERY: 20,
  MAP_LOOKUP_AND_DELETE_ELEM: 21,
  MAP_FREEZE: 22,
  BTF_GET_NEXT_ID: 23,
  MAP_LOOKUP_BATCH: 24,
  MAP_LOOKUP_AND_DELETE_BATCH: 25,
  MAP_UPDATE_BATCH: 26,
  MAP_DELETE_BATCH: 27,
  LINK_CREATE: 28,
  LINK_UPDATE: 29,
  LINK_GET_FD_BY_ID: 30,
  LINK_GET_NEXT_ID: 31,
  ENABLE_STATS: 32,
  ITER_CREATE: 33,
  LINK_DETACH: 34,
  PROG_BIND_MAP: 35,
} as const

export type Command = keyof typeof COMMANDS

/** How often a call is repeated while the kernel says EAGAIN; libbpf does it five times. */
const ATTEMPTS = 5

interface Filled {
  readonly bytes: Uint8Array
  readonly pointers: Pointers
}

// These take long, and any signal ends them with EAGAIN or EINTR (kernel/bpf/verifier.c, net/bpf/test_run.c).
const UNPROFILED: ReadonlySet<Command> = new Set(['PROG_LOAD', 'PROG_TEST_RUN'])

/** The call itself: the result, or -errno. */
export function bpf(command: Command, attr: Filled): number {
  const unprofiled = UNPROFILED.has(command)
  let result = -EAGAIN
  for (let attempt = 0; result === -EAGAIN && attempt < ATTEMPTS; attempt++) {
    result = native.bpf(COMMANDS[command], attr.bytes, attr.pointers, unprofiled)
  }
  return result
}

/** The call, or a `KernelError` whose syscall reads `bpf(PROG_LOAD)`. */
export function bpfChecked(command: Command, attr: Filled, context?: CallContext): number {
  const result = bpf(command, attr)
  if (result < 0) throw bpfError(command, -result, context)
  return result
}

/** The error of a failed command. */
export function bpfError(command: Command, errno: number, context?: CallContext): KernelError {
  return new KernelError(`bpf(${command})`, errno, context)
}
