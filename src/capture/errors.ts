// What can go wrong with captures and their files.
import { XdpError } from '../kernel/errors.js'
import { CAPTURE_PROBLEMS, type CaptureProblem } from '../packet/pcap-record.js'

/** A file that is no capture file, or is damaged: `code` is `XDP_BAD_CAPTURE`. The packets before the damage were read. */
export class CaptureFileError extends XdpError {
  readonly problem: CaptureProblem

  constructor(name: string, problem: CaptureProblem) {
    super(
      'XDP_BAD_CAPTURE',
      `${name}: ${CAPTURE_PROBLEMS[problem.problem]} at byte ${problem.offset}: ${problem.detail}`,
      problem.problem === 'truncated'
        ? 'Whatever wrote it was interrupted; the packets before are whole.'
        : undefined,
    )
    this.problem = problem
  }
}

/** What ends a capture whose interface is there no more: `code` is `ENODEV`, in every mode. */
export class InterfaceGoneError extends XdpError {
  constructor(name: string, cause: unknown) {
    super('ENODEV', `${name} is gone`, 'It was deleted, or moved to another network namespace.', { cause })
  }
}

/** Writing stopped: `code` is the errno's name (`ENOSPC`, `EPIPE`, …). What was written before is intact. */
export class CaptureWriteError extends XdpError {
  /** The file, `-` for standard output. */
  readonly path: string

  constructor(path: string, cause: unknown) {
    const { code = 'EIO', message } = cause as NodeJS.ErrnoException
    const where = path === '-' ? 'standard output' : path
    super(code, `Writing to ${where} failed: ${message}`, hints[code], { cause })
    this.path = path
  }
}

const hints: Record<string, string> = {
  ENOSPC: 'The disk is full; the file ends with the last packet that fitted.',
  EDQUOT: 'The quota is used up; the file ends with the last packet that fitted.',
  EFBIG: 'The file may not grow; use rotation.',
  EPIPE: 'Whoever read it is gone.',
}
