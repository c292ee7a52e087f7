// xdp filter: says of a filter expression whether it is one, what it comes to, and what it matches in capture files.
import { Command, Option } from 'commander'
import { CaptureReader } from '../capture/index.js'
import { compileFilter, FilterError, type Explanation, type Filter } from '../filter/index.js'
import { UnsupportedError } from '../kernel/index.js'
import { LINKTYPE_ETHERNET } from '../packet/index.js'

const STAGES = [
  'tokens',
  'tree',
  'checked',
  'ir',
  'optimised',
  'classic',
  'ebpf',
] as const satisfies (keyof Explanation)[]

interface FilterCommandOptions {
  explain?: true
  stage?: (typeof STAGES)[number]
  classic?: true
  ebpf?: true
  test?: readonly string[]
}

export function filterCommand(): Command {
  return new Command('filter')
    .summary('check, explain and try a filter expression')
    .description(
      "Compiles an expression of tcpdump's filter language (pcap-filter(7)), as the commands that take packets do, and says what " +
        'it comes to. Nothing is loaded, and names are looked up in the files of this system only.',
    )
    .argument('<expression...>', 'the filter; its words may be one argument or several')
    .option('--explain', 'print every stage, from the words to eBPF')
    .addOption(new Option('--stage <stage>', 'print one of them').choices(STAGES))
    .option('--classic', 'print the instructions of classic BPF, as tcpdump -d does')
    .option('--ebpf', 'print the instructions of eBPF')
    .option('--test <file...>', 'count the packets that match in capture files (pcap, pcapng)')
    .addHelpText(
      'after',
      `
Examples:
  xdp filter --explain 'tcp port 80 or 443'
  xdp filter --stage checked host 10.0.0.1 and not port ssh
  xdp filter 'tcp port 80 or 443' --test a.pcap b.pcapng

A packet socket takes 4096 instructions of classic BPF, an XDP program more, files a filter of any size.

Exit status: 0 for a right expression, 1 when a file cannot be read, 2 for a wrong expression, with its fault marked, and for
one too large for what is asked.`,
    )
    .action(async (words: readonly string[], options: FilterCommandOptions) => {
      const filter = compileFilter(words.join(' '))
      const { explain, stage: one, classic, ebpf, test = [] } = options
      const parts: string[] = []
      const stages = filter.explain()
      if (explain) {
        for (const stage of STAGES) {
          parts.push(`${stage}:\n${indented(stages[stage])}`)
        }
      }
      if (one) parts.push(stages[one])
      if (classic) parts.push(stages.classic)
      if (ebpf) parts.push(stages.ebpf)
      const asked = parts.length > 0 || test.length > 0
      if (!asked) parts.push(summaryOf(filter))
      if (parts.length > 0) console.log(parts.map((part) => part.trimEnd()).join('\n\n'))
      for (const file of test) console.log(await countIn(file, filter))
    })
}

const indented = (text: string): string => text.trimEnd().replaceAll(/^(?=.)/gm, '  ')

/** What runs a filter in the kernel, and how much of it there is. */
function summaryOf(filter: Filter): string {
  const ebpf = filter.toEbpf().length / 8
  try {
    const classic = filter.toClassicBpf().length / 8
    return `a right filter: ${classic} instructions of classic BPF, ${ebpf} of eBPF`
  } catch (error) {
    if (!(error instanceof FilterError && error.code === 'XDP_FILTER_TOO_LARGE')) throw error
    // Without the expression that it points into: there it is all of it.
    const [sentence] = error.message.split('\n', 1)
    return `a right filter: ${ebpf} instructions of eBPF\nnot as classic BPF: ${sentence}`
  }
}

/** One line on what matches in a capture file. */
async function countIn(file: string, filter: Filter): Promise<string> {
  const reader = await CaptureReader.open(file)
  let packets = 0
  let matches = 0
  try {
    await reader.read(({ bytes, offset, length, wireLength, linkType }) => {
      if (linkType !== LINKTYPE_ETHERNET) {
        const message = `${file} has packets of link type ${linkType}`
        throw new UnsupportedError(message, `Filters are for Ethernet, link type ${LINKTYPE_ETHERNET}.`)
      }
      packets++
      if (filter.matches(bytes, offset, length, wireLength)) matches++
    })
  } finally {
    await reader.close()
  }
  return `${file}: ${matches} of ${packets} packets match`
}
