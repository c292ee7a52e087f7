// A filter expression, compiled: what runs it, and every stage on the way there.
import { OptionError } from '../kernel/errors.js'
import { check } from './check.js'
import { FilterError, tooLarge } from './error.js'
import { generate } from './generate/index.js'
import { type Predicate, interpreter } from './interpret.js'
import { ebpfCode, ebpfListing } from './ebpf.js'
import { encode, withLongJumps } from './encode.js'
import { unroll } from './unroll.js'
import type { Checked } from './checked.js'
import type { Tree } from './tree.js'
import { printChecked, printGraph, printTokens, printTree } from './print.js'
import { type FilterCode, type Instruction, linearize, listing } from './linear.js'
import { lower } from './lower.js'
import { ConstantFault, GraphTooLarge, optimise, takesNothing } from './optimise/index.js'
import type { Block } from './graph.js'
import { parse } from './parse.js'
import { type Resolver, fileResolver } from './resolve.js'
import { type Token, tokenize } from './tokens.js'

/** How to compile a filter. */
export interface FilterOptions {
  /** How many bytes of a matching packet classic BPF asks for, 1 to 2^31 - 1. Default 262144, as tcpdump. */
  snapLength?: number
  /** Where names are looked up. Default the system's files, without DNS. */
  resolve?: Resolver
}

/** As tcpdump: more than any packet. */
const DEFAULT_SNAP_LENGTH = 262144

/**
 * Compiles an expression of tcpdump's filter language (pcap-filter(7)) for Ethernet frames, with the verdicts of libpcap 1.10 on
 * every packet, truncated ones included. An expression without words takes every packet. Throws `FilterError`, which points into
 * the expression.
 */
export function compileFilter(expression: string, options: FilterOptions = {}): Filter {
  return new Filter(expression, compile(expression, options))
}

/** Every stage of a compilation. */
export interface Stages {
  readonly tokens: readonly Token[]
  /** Undefined for an expression without words. */
  readonly tree: Tree | undefined
  readonly checked: Checked | undefined
  readonly graph: Block
  readonly optimised: Block
  readonly asksForTags: boolean
  /** libpcap's program, which may loop. */
  readonly program: readonly Instruction[]
}

/** All stages, one after the other. */
function compile(
  expression: string,
  { snapLength = DEFAULT_SNAP_LENGTH, resolve = fileResolver() }: FilterOptions,
): Stages {
  if (!Number.isInteger(snapLength) || snapLength < 1 || snapLength > 0x7fff_ffff) {
    throw new OptionError('snapLength', `${snapLength} is no number of bytes`, 'Use 1 to 2^31 - 1.')
  }
  const tokens = tokenize(expression)
  const tree = parse(expression, tokens)
  const checked = tree && check(tree, { expression, resolver: resolve })
  const generated = checked && generate(checked, expression)
  const graph = lower(generated?.test, snapLength)
  // libpcap's optimiser does not understand jumps within blocks.
  const optimised = generated?.hasJumps ? graph : shorten(graph, expression)
  const asksForTags = generated?.asksForTags ?? false
  return { tokens, tree, checked, graph, optimised, asksForTags, program: linearize(optimised) }
}

/** The graph as libpcap's optimiser leaves it. What it refuses is refused. */
function shorten(graph: Block, expression: string): Block {
  const at = { position: 0, length: expression.length }
  try {
    const optimised = optimise(graph)
    if (!takesNothing(optimised)) return optimised
  } catch (error) {
    if (error instanceof GraphTooLarge) throw tooLarge(expression, `The filter comes to ${error.message}`)
    if (!(error instanceof ConstantFault)) throw error
    const sentence = `This comes to a ${error.message}`
    throw new FilterError(expression, { code: 'XDP_FILTER_MEANING', sentence, at })
  }
  throw new FilterError(expression, { code: 'XDP_FILTER_NEVER', sentence: 'No packet can match this', at })
}

/** A filter's stages as text. */
export interface Explanation {
  tokens: string
  /** The syntax tree. */
  tree: string
  /** The tree with names looked up and qualifiers inherited. */
  checked: string
  /** The graph of blocks that the tests come to. */
  ir: string
  /** The same graph, shortened as libpcap does it. */
  optimised: string
  /** Classic BPF, as `tcpdump -d` prints it. */
  classic: string
  /** The instructions of a program that passes what matches and drops the rest. */
  ebpf: string
}

/** A compiled filter. */
export class Filter implements FilterCode {
  readonly expression: string
  readonly #stages: Stages
  readonly #program: readonly Instruction[]
  readonly #predicate: Predicate

  /** Made by `compileFilter`. */
  constructor(expression: string, stages: Stages) {
    this.expression = expression
    this.#stages = stages
    this.#program = unroll(stages.program)
    this.#predicate = interpreter(this.#program)
  }

  /** The instructions that all three forms of it run: libpcap's, with loops written out. */
  get program(): readonly Instruction[] {
    return this.#program
  }

  /**
   * Whether the expression asks for VLAN tags (`vlan`). The kernel takes a tag off a frame before packet sockets see it: there such
   * a filter must run behind what puts the tag back.
   */
  get asksForTags(): boolean {
    return this.#stages.asksForTags
  }

  /**
   * Whether an Ethernet frame matches: `length` bytes from `offset` on, of which `wireLength` were there when it was sent. What
   * lies beyond `length` is not looked at: a test that would need it fails the packet.
   */
  matches(bytes: Uint8Array, offset = 0, length = bytes.length - offset, wireLength = length): boolean {
    return this.#predicate(bytes, offset, length, wireLength)
  }

  /**
   * The filter as `struct sock_filter[]`, 8 bytes each, for SO_ATTACH_FILTER: libpcap's code, but that loops (`protochain`) are
   * written out, and that what the kernel would refuse or read otherwise says what libpcap means. See `asksForTags` too. Throws
   * `FilterError` (`XDP_FILTER_TOO_LARGE`) above 4096 instructions, which the other forms of it may have.
   */
  toClassicBpf(): Uint8Array {
    return encode(this)
  }

  /**
   * The filter as eBPF, 8 bytes an instruction: of a program that passes what matches and drops the rest. One with a jump over more
   * than 32767 of them is for kernel 6.6 and later. Whether the verifier takes it is known when it is loaded: it follows at most
   * 8192 comparisons in a row, and a million steps (kernel/bpf/verifier.c).
   */
  toEbpf(): Uint8Array {
    return ebpfCode(this)
  }

  /** Every stage on the way from the expression to its forms, as text. */
  explain(): Explanation {
    const { tokens, tree, checked, graph, optimised, program } = this.#stages
    const listed = (): string => ebpfListing(this.toEbpf())
    return {
      tokens: printTokens(tokens),
      tree: printTree(tree),
      checked: printChecked(checked),
      ir: printGraph(graph),
      optimised: printGraph(optimised),
      classic: listing(withLongJumps(program)),
      get ebpf() {
        return listed()
      },
    }
  }
}
