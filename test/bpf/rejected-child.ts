// Loads the programs that are rejected only without CAP_PERFMON, and prints what a user gets, as JSON.
import { VerifierError } from '../../src/bpf/index.js'
import { loadRejected, rejected } from './rejected-programs.js'

/** What is known of a rejection in another process. */
export interface Report {
  name: string
  /** Undefined when the program was accepted. */
  error?: Pick<VerifierError, 'code' | 'message' | 'hint' | 'line' | 'source' | 'log'>
}

const reports = Object.entries(rejected)
  .filter(([, { unprivileged }]) => unprivileged)
  .map(([name, program]): Report => {
    try {
      loadRejected(program)
      return { name }
    } catch (error) {
      if (!(error instanceof VerifierError)) throw error
      const { code, message, hint, line, source, log } = error
      return { name, error: { code, message, hint, line, source, log } }
    }
  })
process.stdout.write(JSON.stringify(reports))
