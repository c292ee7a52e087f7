// The command `xdp`: what it takes, and how it ends. Statuses: 0 done, 1 refused or failed, 2 used wrongly.
import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { FilterError } from '../filter/index.js'
import { OptionError, XdpError } from '../kernel/index.js'
import { captureCommand } from './capture.js'
import { checkCommand } from './check.js'
import { demoCommand } from './demo.js'
import { disasmCommand } from './disasm.js'
import { dropCommand } from './drop.js'
import { echoCommand } from './echo.js'
import { filterCommand } from './filter.js'
import { forwardCommand } from './forward.js'
import { generateCommand } from './generate.js'
import { labCommand } from './lab.js'
import { loadCommand } from './load.js'
import { measureCommand } from './measure.js'
import { pongCommand } from './pong.js'
import { programsCommand } from './programs.js'
import { statusCommand } from './status.js'
import { unloadCommand } from './unload.js'

const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as {
  version: string
}

const program = new Command('xdp')
  .description('See, take and answer packets at the driver.')
  .version(version)
  .option('--debug', 'on an error, show everything known about it')
  .showSuggestionAfterError()
  .addHelpText('after', '\nExit status: 0 done, 1 refused or failed, 2 used wrongly.')

for (const command of [
  captureCommand(),
  pongCommand(),
  echoCommand(),
  dropCommand(),
  loadCommand(),
  unloadCommand(),
  checkCommand(),
  disasmCommand(),
  filterCommand(),
  programsCommand(),
  statusCommand(),
  forwardCommand(),
  generateCommand(),
  measureCommand(),
  demoCommand(),
  labCommand(),
]) {
  program.addCommand(command)
}
// Commands do not inherit these; without the first commander would end the process with status 1 for wrong usage.
for (const command of withSubcommands(program)) {
  command.exitOverride().configureOutput({ outputError: (text, write) => write(wrongUsage(text)) })
}

/** Runs the command line; the process then ends by itself, with the right status. */
export async function main(argv: readonly string[]): Promise<void> {
  process.stdout.on('error', endWithoutReader)
  process.stderr.on('error', endWithoutReader)
  try {
    await program.parseAsync([...argv])
  } catch (error) {
    process.exitCode = report(error)
  }
}

// Whoever read our output has gone, a pipe's reader (`xdp drop veth0 | head`) or the terminal: end as on a signal, so that
// nothing is left attached.
function endWithoutReader(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE' && error.code !== 'EIO') throw error
  if (process.listenerCount('SIGTERM') > 0) process.emit('SIGTERM', 'SIGTERM')
  else process.exit()
}

function withSubcommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(withSubcommands)]
}

/** Commander's words, which may take several lines, as one line of ours. */
function wrongUsage(text: string): string {
  const said = text
    .trim()
    .replace(/^error: /, '')
    .replaceAll(/\s*\n\s*/g, ' ')
  return `xdp: ${said}${said.endsWith('.') ? '' : '.'} Run with --help for what there is.\n`
}

/** Says what went wrong in one sentence, or with `--debug` everything, and answers the exit status. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2 // commander has said it already
  if (program.opts<{ debug?: boolean }>().debug || !(error instanceof XdpError)) {
    console.error(error)
  } else {
    // A filter's message ends in a line that points into it.
    const between = error instanceof FilterError ? '\n' : '. '
    console.error(`xdp: ${error.message}${error.hint === undefined ? '' : between + error.hint}`)
  }
  return error instanceof OptionError || error instanceof FilterError ? 2 : 1
}
