// The command `xdp`: what it takes, and how it ends. Statuses: 0 done, 1 refused or failed, 2 used wrongly.
import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { FilterError } from '../filter/error.js'
import { OptionError, XdpError } from '../kernel/index.js'

const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as {
  version: string
}

const program = new Command('xdp')
  .description('See, take and answer packets at the driver.')
  .version(version)
  .option('--debug', 'on an error, show everything known about it')
  .showSuggestionAfterError()
  .addHelpText('after', '\nExit status: 0 done, 1 refused or failed, 2 used wrongly.')

// Each brings along what it needs of the library, so only the one that is meant is loaded.
const commands: Record<string, () => Promise<Command>> = {
  capture: async () => (await import('./capture.js')).captureCommand(),
  pong: async () => (await import('./pong.js')).pongCommand(),
  echo: async () => (await import('./echo.js')).echoCommand(),
  drop: async () => (await import('./drop.js')).dropCommand(),
  load: async () => (await import('./load.js')).loadCommand(),
  unload: async () => (await import('./unload.js')).unloadCommand(),
  check: async () => (await import('./check.js')).checkCommand(),
  disasm: async () => (await import('./disasm.js')).disasmCommand(),
  filter: async () => (await import('./filter.js')).filterCommand(),
  programs: async () => (await import('./programs.js')).programsCommand(),
  status: async () => (await import('./status.js')).statusCommand(),
  forward: async () => (await import('./forward.js')).forwardCommand(),
  generate: async () => (await import('./generate.js')).generateCommand(),
  measure: async () => (await import('./measure.js')).measureCommand(),
  demo: async () => (await import('./demo.js')).demoCommand(),
  lab: async () => (await import('./lab.js')).labCommand(),
}

/** Adds the command that the line names; all of them where it names none: they are listed then, or guessed from. */
async function addCommands(argv: readonly string[]): Promise<void> {
  const word = argv.slice(2).find((word) => !word.startsWith('-'))
  const named = word !== undefined && Object.hasOwn(commands, word) ? [word] : Object.keys(commands)
  for (const name of named) program.addCommand(await commands[name]())
  // Commands do not inherit these; without the first commander would end the process with status 1 for wrong usage.
  for (const command of withSubcommands(program)) {
    command.exitOverride().configureOutput({ outputError: (text, write) => write(wrongUsage(text)) })
  }
}

/** Runs the command line; the process then ends by itself, with the right status. */
export async function main(argv: readonly string[]): Promise<void> {
  process.stdout.on('error', endWithoutOutput)
  // What is said of the work is not the work: whoever reads it may go, and its disk may be full.
  process.stderr.on('error', () => undefined)
  try {
    await addCommands(argv)
    await program.parseAsync([...argv])
  } catch (error) {
    process.exitCode = report(error)
  }
}

let isWithoutOutput = false

// Whoever read our output has gone, a pipe's reader (`xdp drop veth0 | head`) or the terminal, which is no failure, or it
// cannot be written, which is one: end as on a signal, so that nothing is left attached.
function endWithoutOutput(error: NodeJS.ErrnoException): void {
  // What is still printed on the way out must not cut that short.
  if (isWithoutOutput) return
  isWithoutOutput = true
  if (error.code !== 'EPIPE' && error.code !== 'EIO') {
    console.error(`xdp: standard output cannot be written: ${error.message}`)
    process.exitCode = 1
  }
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
