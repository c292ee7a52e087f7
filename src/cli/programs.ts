// xdp programs: the shipped programs, and what can be set of them.
import { Command } from 'commander'
import { shippedPrograms, type ShippedProgram } from '../programs/index.js'
import { NAME_WIDTH, shippedProgram } from './choose-program.js'

export function programsCommand(): Command {
  return new Command('programs')
    .summary('list the shipped XDP programs')
    .description('Lists the XDP programs that come with this package, and what can be set of them.')
    .argument('[name]', 'only this one')
    .option('--json', 'print an array of objects, one a program')
    .addHelpText('after', '\nSet with --set name=value, where a command takes a program: `xdp load --help`.')
    .action((name: string | undefined, { json }: { json?: boolean }) => {
      const programs: [string, ShippedProgram][] =
        name === undefined ? [...shippedPrograms] : [[name, shippedProgram(name)]]
      if (json) console.log(JSON.stringify(programs.map(describe), undefined, 2))
      else console.log(programs.map((entry) => asText(entry, NAME_WIDTH)).join('\n'))
    })
}

/** A program, as `xdp programs --json` prints it. */
function describe([name, { summary, settings = {} }]: [string, ShippedProgram]) {
  return {
    name,
    summary,
    settings: Object.entries(settings).map(([name, setting]) => ({ name, ...setting })),
  }
}

function asText(entry: [string, ShippedProgram], nameWidth: number): string {
  const { name, summary, settings } = describe(entry)
  const lines = settings.map((it) => ({ set: `--set ${it.name}=${it.example}`, summary: it.summary }))
  const width = Math.max(...lines.map(({ set }) => set.length))
  return [
    `${name.padEnd(nameWidth)} ${summary}`,
    ...lines.map((line) => `${' '.repeat(nameWidth + 1)}${line.set.padEnd(width)}  ${line.summary}`),
  ].join('\n')
}
