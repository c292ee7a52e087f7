// `x`, what a program's body writes itself with: beside control flow the packet, maps and the kernel's helpers.
import type { AnyCodec } from '../codec.js'
import type { MapType, Verdict } from '../constants.js'
import type { HelperName } from '../helpers.js'
import { Body } from './body.js'
import type { Operand } from './ir.js'
import { type Kind, checkCount, constant, shown } from './kinds.js'
import { oneStatement, programError } from './location.js'
import type { MapDefinition } from './maps.js'
import {
  Bytes,
  type Init,
  type Place,
  type Ref,
  checkPlace,
  further,
  initialize,
  placeHere,
  refTo,
} from './memory.js'
import { Packet } from './packet.js'
import { type Branches, Local, Maybe, VerdictValue, type XdpResult, verdictNumber } from './results.js'
import type { Callable, Parameters, Subprograms } from './subprograms.js'
import type { Tracer } from './trace.js'
import { type Term, Value, operandIn } from './value.js'

/** The map, if it is one, as JavaScript may hand in anything. */
function checkMap(map: MapDefinition): MapDefinition {
  const given: unknown = map
  if (typeof given === 'object' && given !== null && 'key' in given && 'maxEntries' in given) return map
  throw programError('map', `${shown(map)} is no map of the program`, 'Use what defineMap gives.')
}

type KeyOf<M> = M extends MapDefinition<MapType, infer KC, AnyCodec> ? KC : never
type ValueOf<M> = M extends MapDefinition<MapType, AnyCodec, infer VC> ? VC : never
/** include/uapi/linux/bpf.h: flags of map_update_elem. */
const UPDATE_MODES = { any: 0n, create: 1n, replace: 2n } as const
/** And what ringbuf_query is asked. */
const BPF_RB_AVAIL_DATA = 0n
/** The body of an XDP program (`R` is a verdict) or of a function (a value). */
export class Xdp<R = XdpResult> extends Body<R> {
  readonly #subprograms: Subprograms

  /** Made by `defineXdp` and `defineFunction`. */
  constructor(tracer: Tracer, subprograms: Subprograms, resultKind?: Kind) {
    super(tracer, resultKind)
    this.#subprograms = subprograms
  }

  // The packet

  /** The packet, from its first byte. */
  get packet(): Packet {
    return new Packet(this.tracer)
  }

  /**
   * Moves the packet's start by `delta` bytes: below zero makes room in front, above cuts off. Every header found before is
   * void. Where the kernel cannot, the program ends with `otherwise`.
   */
  adjustHead(delta: Term<'s32'>): void {
    this.#adjust('xdp_adjust_head', delta)
  }
  /** Moves the packet's end: below zero cuts off, above makes room (5.8). As `adjustHead`. */
  adjustTail(delta: Term<'s32'>): void {
    this.#adjust('xdp_adjust_tail', delta)
  }
  /** Moves the start of the metadata before the packet, in steps of 4. As `adjustHead`. */
  adjustMeta(delta: Term<'s32'>): void {
    this.#adjust('xdp_adjust_meta', delta)
  }

  /** `length` bytes of metadata that end where the packet begins, made room for by `adjustMeta`; see `Packet.bytes`. */
  metadata(length: number): Bytes {
    checkCount('length', length)
    const { tracer } = this
    const { packet } = tracer.point
    tracer.needBytes(packet.meta, length, undefined, packet.data)
    return new Bytes(placeHere(tracer, 'packet', packet.meta, { packet }), length)
  }

  /** The queue the packet arrived on. */
  get queue(): Value<'u32'> {
    return this.#context(16)
  }
  /** The index of the device it arrived on. */
  get ifindex(): Value<'u32'> {
    return this.#context(12)
  }
  /** Nanoseconds since the machine started. */
  time(): Value<'u64'> {
    return new Value(this.tracer, 'u64', this.tracer.call('ktime_get_ns', []))
  }
  /** 32 random bits. */
  random(): Value<'u32'> {
    return new Value(this.tracer, 'u32', this.tracer.call('get_prandom_u32', []))
  }
  /** The processor this runs on. */
  cpu(): Value<'u32'> {
    return new Value(this.tracer, 'u32', this.tracer.call('get_smp_processor_id', []))
  }

  // Maps

  /** Looks a key up. In arrays the key is the index. */
  lookup<M extends MapDefinition>(map: M, key: Init<KeyOf<M>> | Local<KeyOf<M>>): Maybe<Ref<ValueOf<M>>> {
    const pointer = this.#onStack([[checkMap(map).key, key]], ([address]) =>
      this.tracer.call('map_lookup_elem', [this.#map(map), address]),
    )
    return new Maybe(
      this.tracer,
      pointer,
      () => refTo(placeHere(this.tracer, 'map', pointer), map.value) as Ref<ValueOf<M>>,
    )
  }

  /** Writes an element; gives 0, or a negative errno (E2BIG 7 when the map is full, EEXIST 17, ENOENT 2). */
  update<M extends MapDefinition>(
    map: M,
    key: Init<KeyOf<M>> | Local<KeyOf<M>>,
    value: Init<ValueOf<M>> | Local<ValueOf<M>>,
    mode: keyof typeof UPDATE_MODES = 'any',
  ): Value<'s64'> {
    const result = this.#onStack(
      [
        [checkMap(map).key, key],
        [map.value, value],
      ],
      ([keyAddress, valueAddress]) =>
        this.tracer.call(
          'map_update_elem',
          [this.#map(map), keyAddress, valueAddress, UPDATE_MODES[mode]],
          ['map'],
        ),
    )
    return new Value(this.tracer, 's64', result)
  }

  /** Removes an element; gives 0, or a negative errno (ENOENT 2). */
  delete<M extends MapDefinition>(map: M, key: Init<KeyOf<M>> | Local<KeyOf<M>>): Value<'s64'> {
    const result = this.#onStack([[checkMap(map).key, key]], ([address]) =>
      this.tracer.call('map_delete_elem', [this.#map(map), address], ['map']),
    )
    return new Value(this.tracer, 's64', result)
  }

  /**
   * The verdict that gives the packet to what is in a map of sockets, devices or CPUs at `key`, or `fallback` where there is
   * nothing (5.3).
   */
  redirectTo(
    map: MapDefinition<'xskmap' | 'devmap' | 'devmap_hash' | 'cpumap', AnyCodec, AnyCodec>,
    key: Term<'u32'>,
    fallback: Verdict = 'pass',
  ): VerdictValue {
    const index = this.#term(key)
    return new VerdictValue(
      this.tracer.call('redirect_map', [this.#map(map), index, verdictNumber(fallback)]),
    )
  }

  /** The verdict that sends the packet out of the device with this index. */
  redirectToInterface(ifindex: Term<'u32'>): VerdictValue {
    const index = this.#term(ifindex)
    return new VerdictValue(this.tracer.call('redirect', [index, 0n]))
  }

  /** Goes on in the program at `index` of the map, for good; where there is none, or after 33 such jumps, the program continues here. */
  tailCall(map: MapDefinition<'prog_array', AnyCodec, AnyCodec>, index: Term<'u32'>): void {
    const operand = this.#term(index)
    this.tracer.call('tail_call', [this.tracer.context, this.#map(map), operand])
  }

  /**
   * Writes a record into a ring buffer (5.8): `body` fills in what `init` did not, and may not return from the program. `.else`
   * runs where the buffer is full.
   *
   * `tail` is how many bytes there are to be behind the ring's own type, for `body` to write: until then they are whatever was in
   * the ring before. It may be a variable, as long as every path that leads here set it to a number (as the kernel has it).
   */
  record<VC extends AnyCodec>(
    ring: MapDefinition<'ringbuf', AnyCodec, VC>,
    init: Init<VC>,
    body: (record: Ref<VC>, tail: Bytes) => void = () => undefined,
    { tail = 0 }: { tail?: Term<'u32'> } = {},
  ): Branches<R> {
    const { tracer } = this
    const fixed = BigInt(ring.value.size)
    const size =
      tail instanceof Value ? tracer.alu('add', 64, this.#term(tail), fixed) : fixed + constant('u32', tail)
    const pointer = tracer.call('ringbuf_reserve', [this.#map(ring), size, 0n])
    const no = tracer.branch('!=', 64, pointer, 0n)
    const returns = tracer.returns
    const ends = this.trace(tracer.point, () => {
      const place = placeHere(tracer, 'map', pointer)
      initialize(place, ring.value, init)
      const rest = new Bytes(further(place, ring.value.size), tail instanceof Value ? 0 : Number(tail))
      const outcome: unknown = body(refTo(place, ring.value), rest)
      if (outcome !== undefined || tracer.returns !== returns || !tracer.reachable) {
        throw programError(
          'record',
          'The program may end here while it holds a record of the ring buffer',
          'Find headers and make decisions before x.record, and return behind it.',
        )
      }
      tracer.call('ringbuf_submit', [pointer, 0n])
    })
    return this.branches(ends, no)
  }

  /** Bytes that wait in a ring buffer now, headers and records that are being written included (5.8). Others go on meanwhile. */
  waiting(ring: MapDefinition<'ringbuf', AnyCodec, AnyCodec>): Value<'u64'> {
    const { tracer } = this
    return new Value(tracer, 'u64', tracer.call('ringbuf_query', [this.#map(ring), BPF_RB_AVAIL_DATA]))
  }

  /** Copies bytes of the packet, from `offset` on, into memory: also where packets come in several buffers (5.18). Gives 0 or a negative errno. */
  loadBytes(offset: Term<'u32'>, into: Bytes, length: Term<'u32'> = into.length): Value<'s64'> {
    const { tracer } = this
    const address = this.#address(into.place)
    const result = tracer.call(
      'xdp_load_bytes',
      [tracer.context, this.#term(offset), address, this.#term(length)],
      [into.place.space],
    )
    return new Value(tracer, 's64', result)
  }

  /** Calls a function of this program. */
  call<P extends Parameters, K extends Kind>(
    definition: Callable<P, K>,
    args: { readonly [N in keyof P]: Term<P[N]> },
  ): Value<K> {
    const { tracer } = this
    const { movesPacket } = this.#subprograms.use(definition)
    const operands = Object.entries(definition.parameters).map(([name, kind]) =>
      new Value(tracer, kind, 0n).term(args[name]),
    )
    const dst = tracer.newValue()
    tracer.emit({ op: 'invoke', dst, callee: definition.name, args: [tracer.context, ...operands] })
    tracer.changed('packet', 'map')
    if (movesPacket) tracer.movePacket()
    return new Value(tracer, definition.result, dst)
  }
  #adjust(helper: HelperName, delta: Term<'s32'>): void {
    const { tracer } = this
    const operand = delta instanceof Value ? operandIn(tracer, delta.s64()) : constant('s64', delta)
    const result = tracer.call(helper, [tracer.context, operand])
    // Before the result is looked at: the verifier forgets what it knew of the packet whether or not it was moved.
    tracer.movePacket()
    tracer.unless('==', 64, result, 0n)
  }

  #term(value: Term<'u32'>): Operand {
    return value instanceof Value ? operandIn(this.tracer, value) : constant('u32', value)
  }

  #context(offset: number): Value<'u32'> {
    return new Value(this.tracer, 'u32', this.tracer.load('context', 'u32', this.tracer.context, offset))
  }

  #map(map: MapDefinition): number {
    this.#subprograms.useMap(checkMap(map))
    const dst = this.tracer.newValue()
    this.tracer.emit({ op: 'map', dst, map: map.name })
    return dst
  }

  #address(place: Place): number {
    checkPlace(place)
    const { base, offset } = place
    return offset === 0 ? base : this.tracer.alu('add', 64, base, BigInt(offset))
  }

  /** Addresses of keys and values for a helper, which need not be there any more when it returns. */
  #onStack<T>(values: [AnyCodec, unknown][], use: (addresses: number[]) => T): T {
    return oneStatement(() => {
      const { stackTop } = this.tracer.point
      const addresses = values.map(([codec, value]) => {
        if (value instanceof Local) return this.#address((value as Local<AnyCodec>).place)
        if (value instanceof Bytes && value.length === codec.size && !codec.shape) {
          return this.#address(value.place)
        }
        return this.#address(this.struct(codec, value as Init<AnyCodec>).place)
      })
      const result = use(addresses)
      this.tracer.point.stackTop = stackTop
      return result
    })
  }
}
