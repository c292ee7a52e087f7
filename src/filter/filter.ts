// A filter expression, compiled: what runs it, and every stage on the way there.
import { OptionError } from '../kernel/errors.js'
import { check } from './check.js'
import { FilterError } from './error.js'
import { generate } from './generate.js'
import { type Predicate, interpreter } from './interpret.js'
import { type Instruction, encode, linearize, unroll } from './linear.js'
import { lower } from './lower.js'
import { ConstantFault, optimise, takesNothing } from './optimise/index.js'
import type { Block } from './graph.js'
import { parse } from './parse.js'
import { type Resolver, fileResolver } from './resolve.js'
import { tokenize } from './tokens.js'

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

/** What a filter is made of. */
export interface Compiled {
  /** With loops, if it has any. */
  readonly program: readonly Instruction[]
}

/** All stages, one after the other. */
function compile(
  expression: string,
  { snapLength = DEFAULT_SNAP_LENGTH, resolve = fileResolver() }: FilterOptions,
): Compiled {
  if (!Number.isInteger(snapLength) || snapLength < 1 || snapLength > 0x7fff_ffff) {
    throw new OptionError('snapLength', `${snapLength} is no number of bytes`, 'Use 1 to 2^31 - 1.')
  }
  const tree = parse(expression, tokenize(expression))
  const generated = tree && generate(check(tree, { expression, resolver: resolve }), expression)
  const graph = lower(generated?.test, snapLength)
  const optimised = generated?.hasJumps ? graph : shorten(graph, expression)
  return { program: linearize(optimised) }
}

/** The graph as libpcap's optimiser leaves it. What it refuses is refused. */
function shorten(graph: Block, expression: string): Block {
  const at = { position: 0, length: expression.length }
  try {
    const optimised = optimise(graph)
    if (!takesNothing(optimised)) return optimised
  } catch (error) {
    if (!(error instanceof ConstantFault)) throw error
    const sentence = `This comes to a ${error.message}`
    throw new FilterError(expression, { code: 'XDP_FILTER_MEANING', sentence, at })
  }
  throw new FilterError(expression, { code: 'XDP_FILTER_NEVER', sentence: 'No packet can match this', at })
}

/** A compiled filter. */
export class Filter {
  readonly expression: string
  readonly #compiled: Compiled
  readonly #unrolled: readonly Instruction[]
  readonly #predicate: Predicate

  /** Made by `compileFilter`. */
  constructor(expression: string, compiled: Compiled) {
    this.expression = expression
    this.#compiled = compiled
    this.#unrolled = unroll(compiled.program)
    this.#predicate = interpreter(this.#unrolled)
  }

  /** The instructions it runs, without loops: those of libpcap, with absolute targets. */
  get program(): readonly Instruction[] {
    return this.#unrolled
  }

  /**
   * Whether an Ethernet frame matches: `length` bytes from `offset` on, of which `wireLength` were there when it was sent. What
   * lies beyond `length` is not looked at: a test that would need it fails the packet.
   */
  matches(bytes: Uint8Array, offset = 0, length = bytes.length - offset, wireLength = length): boolean {
    return this.#predicate(bytes, offset, length, wireLength)
  }

  /**
   * The filter as `struct sock_filter[]`, 8 bytes each, for SO_ATTACH_FILTER; the same code as libpcap's, but for `protochain`,
   * whose loop is written out. The kernel takes a VLAN tag off before packet sockets see the frame. Throws `FilterError`
   * (`XDP_FILTER_TOO_LARGE`) above 4096 instructions.
   */
  toClassicBpf(): Uint8Array {
    const bytes = encode(this.#unrolled)
    if (bytes) return bytes
    throw new FilterError(this.expression, {
      code: 'XDP_FILTER_TOO_LARGE',
      sentence: `The filter comes to ${this.#unrolled.length} instructions of classic BPF; the kernel takes 4096`,
      at: { position: 0, length: this.expression.length },
    })
  }

  /** libpcap's program, which may loop. */
  get compiled(): Compiled {
    return this.#compiled
  }
}
