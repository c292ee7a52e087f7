// Makes a disagreement small: fewer words in the expression, fewer bytes in the packet, as long as it stays one.
import { type Filter, compileFilter } from '../../src/filter/index.js'
import type { Backend } from './backends.js'
import type { CorpusPacket } from './corpus/packets.js'
import { judge, type Judgement } from './oracle.js'

/** One packet on which a back end and tcpdump differ. */
export interface Disagreement {
  backend: Backend
  expression: string
  packet: CorpusPacket
}

/** Spans of words longer than this are not cut out at once. */
const LONGEST_CUT = 12

const words = (text: string) =>
  text.match(/\s+|&&|\|\||[<>=!]=|<<|>>|[()[\]!&|<>=:+*/%^]|-|[^\s()[\]!&|<>=:+*/%^]+/g) ?? []

function answer(filter: Filter, { backend, packet }: Disagreement): boolean | string {
  try {
    const runner = backend.prepare([filter])
    try {
      const verdict = new Uint8Array(1)
      runner.judge(packet, verdict)
      return verdict[0] === 1
    } finally {
      runner.close?.()
    }
  } catch (error) {
    return error instanceof Error ? error.message.split('\n', 1)[0] : String(error)
  }
}

const compiled = (expression: string): Filter | undefined => {
  try {
    return compileFilter(expression)
  } catch {
    return undefined
  }
}

function differs(found: Disagreement, judgement: Judgement, number = 0): boolean {
  if (!judgement.accepted || !found.backend.takes(found.packet)) return false
  const filter = compiled(found.expression)
  return filter !== undefined && answer(filter, found) !== (judgement.matches[number] === 1)
}

async function shorterExpression(found: Disagreement): Promise<Disagreement | undefined> {
  const parts = words(found.expression)
  const texts = new Set<string>()
  for (let from = 0; from < parts.length; from++) {
    for (let to = from + 1; to <= Math.min(parts.length, from + LONGEST_CUT); to++) {
      texts.add([...parts.slice(0, from), ...parts.slice(to)].join('').trim())
    }
    texts.add(
      parts
        .slice(from + 1)
        .join('')
        .trim(),
    )
    texts.add(parts.slice(0, from).join('').trim())
  }
  texts.delete(found.expression)
  const candidates = [...texts].sort((a, b) => a.length - b.length)
  const judgements = await judge([found.packet], candidates)
  for (const [i, expression] of candidates.entries()) {
    const smaller = { ...found, expression }
    if (differs(smaller, judgements[i])) return smaller
  }
  return undefined
}

async function firstThatDiffers(
  found: Disagreement,
  packets: CorpusPacket[],
): Promise<CorpusPacket | undefined> {
  const [judgement] = await judge(packets, [found.expression])
  return packets.find((packet, i) => differs({ ...found, packet }, judgement, i))
}

async function smallerPacket(found: Disagreement): Promise<Disagreement> {
  let { packet } = found
  const cuts = Array.from({ length: packet.bytes.length }, (_, length) => {
    const bytes = packet.bytes.subarray(0, length)
    return {
      ...packet,
      bytes,
      wireLength: packet.bytes.length === packet.wireLength ? length : packet.wireLength,
    }
  })
  packet = (await firstThatDiffers(found, cuts)) ?? packet
  for (let at = 0; at < packet.bytes.length; at++) {
    if (packet.bytes[at] === 0) continue
    // The longest run of bytes from here that can be 0 at once.
    const blanked = [64, 16, 6, 4, 2, 1].map((length) => ({
      ...packet,
      bytes: packet.bytes.slice().fill(0, at, at + length),
    }))
    packet = (await firstThatDiffers(found, blanked)) ?? packet
  }
  return { ...found, packet }
}

/** The smallest disagreement of the same kind that was found. Takes some seconds. */
export async function shrink(found: Disagreement): Promise<Disagreement> {
  let smallest = found
  for (let next: Disagreement | undefined = found; next; next = await shorterExpression(smallest))
    smallest = next
  return smallerPacket(smallest)
}

/** What it is, in lines to paste. */
export async function describeDisagreement(found: Disagreement): Promise<string> {
  const [judgement] = await judge([found.packet], [found.expression])
  const filter = compiled(found.expression)
  const { bytes, wireLength, kind } = found.packet
  return [
    `expression  ${JSON.stringify(found.expression)}`,
    `packet      ${Buffer.from(bytes).toString('hex')}  (${kind}, ${bytes.length} bytes of ${wireLength})`,
    `tcpdump     ${judgement.accepted ? judgement.matches[0] === 1 : judgement.message}`,
    `${found.backend.name.padEnd(11)} ${filter ? answer(filter, found) : 'does not compile'}`,
  ].join('\n')
}
