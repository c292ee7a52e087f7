// What goes wrong, said so that the reader can act: a stable code, the call, what was asked, one sentence of advice.
import { ENOTSUPP } from './errno.js'
import { getSystemErrorMap } from 'node:util'

/** Base of every error this package throws on purpose. `code` is stable; `hint` is one sentence of advice. */
export class XdpError extends Error {
  readonly code: string
  readonly hint: string | undefined

  constructor(code: string, message: string, hint?: string, options?: ErrorOptions) {
    super(message, options)
    this.name = new.target.name
    this.code = code
    this.hint = hint
  }
}

/** The caller asked for something that cannot be meant: an unknown option, a size out of range. `code` is `XDP_BAD_OPTION`. */
export class OptionError extends XdpError {
  /** The option at fault, as the caller wrote it. */
  readonly option: string

  constructor(option: string, message: string, hint?: string) {
    super('XDP_BAD_OPTION', message, hint)
    this.option = option
  }
}

/** A thing the caller named does not exist: `code` is `XDP_NOT_FOUND`. */
export class NotFoundError extends XdpError {
  constructor(message: string, hint?: string) {
    super('XDP_NOT_FOUND', message, hint)
  }
}

/** This kernel or device cannot do what was asked: `code` is `XDP_UNSUPPORTED`. */
export class UnsupportedError extends XdpError {
  constructor(message: string, hint?: string, options?: ErrorOptions) {
    super('XDP_UNSUPPORTED', message, hint, options)
  }
}

/** Used after `close()`, or twice where once is meant: `code` is `XDP_STATE`. */
export class StateError extends XdpError {
  constructor(message: string, hint?: string) {
    super('XDP_STATE', message, hint)
  }
}

/** What a failing call was about. */
export interface CallContext {
  /** What was asked, to stand in the message: `veth0 queue 3`. */
  about?: string | undefined
  /** Advice that beats the general one for this errno. */
  hint?: string | undefined
  /** What the kernel itself said: netlink's extended acknowledgement, a verifier line. */
  said?: string | undefined
}

/** A system call failed. `code` is the errno's name (`EPERM`), as in Node's own errors. */
export class KernelError extends XdpError {
  readonly errno: number
  readonly syscall: string
  /** The kernel's own words, where it gave any. */
  readonly said: string | undefined

  constructor(syscall: string, errno: number, context: CallContext = {}) {
    const { name, text } = errnoText(errno)
    const about = context.about === undefined ? '' : ` (${context.about})`
    const said = context.said === undefined ? '' : `: ${context.said}`
    super(name, `${syscall}${about} failed: ${text} (${name})${said}`, context.hint ?? generalHint(errno))
    this.errno = errno
    this.syscall = syscall
    this.said = context.said
  }
}

/** Passes a call's result through, or throws a `KernelError` when it is -errno. */
export function check(result: number, syscall: string, context?: CallContext): number {
  if (result < 0) throw new KernelError(syscall, -result, context)
  return result
}

const names = getSystemErrorMap()

function errnoText(errno: number): { name: string; text: string } {
  if (errno === ENOTSUPP) return { name: 'ENOTSUPP', text: 'operation not supported' }
  const known = names.get(-errno)
  return known ? { name: known[0], text: known[1] } : { name: `E${errno}`, text: `error ${errno}` }
}

function generalHint(errno: number): string | undefined {
  switch (errnoText(errno).name) {
    case 'EPERM':
    case 'EACCES':
      return 'Run as root, or grant the capabilities CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF.'
    case 'ENODEV':
      return 'The interface is gone; list what is there with `ip link`.'
    case 'ENOSYS':
      return 'This kernel was built without that call, or is too old for it.'
    default:
      return undefined
  }
}
