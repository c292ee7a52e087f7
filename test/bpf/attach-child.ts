// Run as a process of its own by attach.test.ts: attaches a program and stays until it is killed.
import { exit, mov, r0 } from '../../src/bpf/asm.js'
import { BpfProgram, attachXdp } from '../../src/bpf/index.js'
import { Namespace } from '../../src/kernel/namespace.js'

const [namespace, link, mode] = process.argv.slice(2)
const program = BpfProgram.load({ type: 'xdp', name: 'child', code: [mov(r0, 2), exit()] })
const attachment = attachXdp(program, {
  interface: link,
  mode: mode as 'native' | 'generic',
  namespace: Namespace.open(namespace),
})
process.stdout.write(`${attachment.programId}\n`)
setInterval(() => undefined, 1 << 30)
