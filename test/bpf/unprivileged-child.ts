// Run as a process of its own, without rights, by program.test.ts: says how loading and creating fail.
import { exit, mov, r0 } from '../../src/bpf/asm.js'
import { BpfMap, BpfProgram } from '../../src/bpf/index.js'
import { XdpError } from '../../src/kernel/errors.js'

function failure(call: () => unknown): object {
  try {
    call()
    return {}
  } catch (error) {
    if (!(error instanceof XdpError)) throw error
    const { name, code, hint, message } = error
    return { name, code, hint, message }
  }
}

const load = failure(() => BpfProgram.load({ type: 'xdp', name: 'mine', code: [mov(r0, 2), exit()] }))
const create = failure(() => BpfMap.create({ type: 'xskmap', name: 'mine', maxEntries: 1 }))
process.stdout.write(JSON.stringify({ load, create }))
