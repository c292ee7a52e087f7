// Loaded BPF programs: what the kernel knows of them, runs on packets of ours, pins.
import { NotFoundError, StateError } from '../kernel/errors.js'
import { native } from '../kernel/native.js'
import type { ProgramType } from './constants.js'
import { type ProgramInfo, assertKind, openById, programInfo, translatedInstructions } from './info.js'
import { type LoadOptions, loadProgram } from './load.js'
import { getPinned, pinObject } from './pin.js'
import {
  type LiveRunOptions,
  type LiveRunResult,
  type TestRunOptions,
  type TestRunResult,
  runLive,
  testRun,
} from './test-run.js'

/** A loaded program, by a descriptor that this object owns. It stays loaded while anything refers to it. */
export class BpfProgram {
  readonly type: ProgramType | 'unknown'
  /** The kernel's id. */
  readonly id: number
  /** As the kernel has it, cut to 15 characters. */
  readonly name: string
  /** 16 hex digits: a hash of the instructions. */
  readonly tag: string
  /** The verifier's log, when it was asked for. */
  readonly log: string | undefined
  #fd: number

  private constructor(fd: number, log?: string) {
    const info = programInfo(fd)
    this.#fd = fd
    this.type = info.type
    this.id = info.id
    this.name = info.name
    this.tag = info.tag
    this.log = log
  }

  // A descriptor that could not be made an object of is closed.
  static #adopt(fd: number, log?: string): BpfProgram {
    try {
      return new BpfProgram(fd, log)
    } catch (error) {
      native.close(fd)
      throw error
    }
  }

  /**
   * Loads a program. Throws `VerifierError` when it is rejected, `AssemblerError` and `OptionError` for code that
   * cannot be, `KernelError` for everything else.
   */
  static load(options: LoadOptions): BpfProgram {
    const { fd, log } = loadProgram(options)
    return BpfProgram.#adopt(fd, log)
  }

  /** Takes over a program's descriptor. */
  static fromFd(fd: number): BpfProgram {
    assertKind(fd, 'program', `Descriptor ${fd}`)
    return new BpfProgram(fd)
  }

  /** Opens a program by id. Throws `NotFoundError`. Needs CAP_SYS_ADMIN. */
  static openById(id: number): BpfProgram {
    const fd = openById('program', id)
    if (fd === undefined) throw new NotFoundError(`No program with id ${id}`, 'See `bpftool prog show`.')
    return BpfProgram.#adopt(fd)
  }

  /** Opens a pinned program. Throws `NotFoundError`. */
  static openPinned(path: string): BpfProgram {
    return BpfProgram.#adopt(getPinned(path, 'program'))
  }

  /** The descriptor. Throws `StateError` once closed. */
  get fd(): number {
    if (this.#fd < 0) throw new StateError(`The program "${this.name}" is closed`)
    return this.#fd
  }

  info(): ProgramInfo {
    return programInfo(this.fd)
  }

  /** The instructions as the kernel rewrote them; empty when it keeps them back. */
  translated(): Uint8Array {
    return translatedInstructions(this.fd)
  }

  /** Runs the program on a packet in the kernel, attached to nothing; see `testRun`. */
  testRun(options: TestRunOptions): TestRunResult {
    return testRun(this, options)
  }

  /** Sends copies of a packet through an XDP program as if received, and obeys its verdicts; see `runLive`. */
  runLive(options: LiveRunOptions): LiveRunResult {
    return runLive(this, options)
  }

  /** Gives the program a path in the BPF file system, which keeps it alive; see `pinObject`. */
  pin(path: string): void {
    pinObject(this.fd, path)
  }

  /** Lets go of the descriptor. Closing twice is harmless. */
  close(): void {
    if (this.#fd >= 0) native.close(this.#fd)
    this.#fd = -1
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
