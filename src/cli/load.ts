// The XDP programs that can be loaded by name, to try them on an interface without a program of one's own.
import { BpfProgram } from '../bpf/index.js'
import { exit, mov, r0 } from '../bpf/asm.js'
import { OptionError, UnsupportedError } from '../kernel/index.js'
import { RedirectProgram } from '../programs/redirect.js'
import { XDP_DROP, XDP_PASS } from '../programs/verdicts.js'

/** A loaded program, to attach and then to let go of. */
interface Loaded {
  readonly program: BpfProgram
  close(): void
}

interface ShippedProgram {
  /** Half a sentence for the help. */
  readonly does: string
  readonly load: (shape: { queues: number }) => Loaded
}

const programs: Readonly<Record<string, ShippedProgram>> = {
  pass: { does: 'passes every packet to the kernel', load: () => verdict('xdp_pass', XDP_PASS) },
  drop: { does: 'drops every packet', load: () => verdict('xdp_drop', XDP_DROP) },
  redirect: {
    does: "gives packets to their queue's AF_XDP socket, and to the kernel while there is none",
    load: (shape) => RedirectProgram.load(shape),
  },
}

/** One line a program, for a help text. */
export function programHelp(): string {
  return Object.entries(programs)
    .map(([name, { does }]) => `  ${name.padEnd(10)} ${does}`)
    .join('\n')
}

/**
 * Loads a shipped program by name. `queues` is the most queues the device can ever have. Throws
 * `UnsupportedError` for a path, `OptionError` for a name there is no program of.
 */
export function loadByName(name: string, shape: { queues: number }): Loaded {
  if (Object.hasOwn(programs, name)) return programs[name].load(shape)
  const known = `Name one of the shipped programs: ${Object.keys(programs).join(', ')}.`
  if (name.includes('/') || name.endsWith('.o')) {
    throw new UnsupportedError(`${name} looks like an object file, and those cannot be loaded yet`, known)
  }
  throw new OptionError('program', `There is no program "${name}"`, known)
}

function verdict(name: string, action: number): Loaded {
  const program = BpfProgram.load({ type: 'xdp', name, code: [mov(r0, action), exit()] })
  return { program, close: () => program.close() }
}
