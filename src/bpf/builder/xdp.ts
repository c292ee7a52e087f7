// `x`, what a program's body writes itself with: control flow, variables, the packet, maps, the kernel's helpers.
import { type MapType, type Verdict, XDP_ACTIONS } from '../constants.js'
import type { HelperName } from '../helpers.js'
import { type Block, type Operand, isPure } from './ir.js'
import { type Kind, constant } from './kinds.js'
import { programError, statementLocation } from './location.js'
import type { MapDefinition } from './maps.js'
import { Bytes, type Init, type Place, type Ref, checkPlace, initialize, refTo } from './memory.js'
import { Packet } from './packet.js'
import { type FunctionDefinition, type Parameters, type Subprograms, traceFunction } from './functions.js'
import type { Point, Tracer, VariableKey } from './trace.js'
import type { Condition } from './value.js'
import { type Term, type Test, Value, Variable, mapTest } from './value.js'
import type { AnyCodec } from '../codec.js'

/** A verdict that the running program computes: of a redirect, or of `x.verdict`. */
export class VerdictValue {
  /** For the builder's own use. */
  readonly operand: Operand
  constructor(operand: Operand) {
    this.operand = operand
  }
}

/** What an XDP program may return. */
export type XdpResult = Verdict | VerdictValue

/** What a branch's body may give back: nothing, or what to return from there. */
// A body that only acts gives `void`; a union with it is the point here.
export type Outcome<R> = void | R

/** A pointer that may be null: reach what it points to through `x.ifPresent` or `orReturn`. */
export class Maybe<R> {
  /** For the builder's own use. */
  readonly pointer: number
  /** For the builder's own use. */
  readonly refer: () => R
  readonly #tracer: Tracer

  constructor(tracer: Tracer, pointer: number, refer: () => R) {
    this.#tracer = tracer
    this.pointer = pointer
    this.refer = refer
  }

  /** What it points to; where there is nothing the program ends, with `verdict` or its `otherwise`. */
  orReturn(verdict?: Verdict): R {
    this.#tracer.unless(
      '!=',
      64,
      this.pointer,
      0n,
      verdict === undefined ? undefined : verdictNumber(verdict),
    )
    return this.refer()
  }
}

/** A struct (or other codec's type) on the program's stack. */
export class Local<C extends AnyCodec> {
  readonly codec: C
  /** For the builder's own use. */
  readonly place: Place
  constructor(place: Place, codec: C) {
    this.place = place
    this.codec = codec
  }

  /** Its fields. */
  get fields(): Ref<C> {
    return refTo(this.place, this.codec)
  }
}

/** The rest of an `x.if`. It must follow directly. */
export interface Branches<R> {
  elseIf(condition: Condition, body: () => Outcome<R>): Branches<R>
  else(body: () => Outcome<R>): void
}

/** How a loop is left or cut short. Both end the path, as a return does. */
export interface LoopControl {
  break(): void
  continue(): void
}

type KeyOf<M> = M extends MapDefinition<MapType, infer KC, AnyCodec> ? KC : never
type ValueOf<M> = M extends MapDefinition<MapType, AnyCodec, infer VC> ? VC : never

export const verdictNumber = (verdict: Verdict): bigint => BigInt(XDP_ACTIONS[verdict])

/** include/uapi/linux/bpf.h: flags of map_update_elem. */
const UPDATE_MODES = { any: 0n, create: 1n, replace: 2n } as const

/** The body of an XDP program (`R` is a verdict) or of a function (a value). */
export class Xdp<R = XdpResult> {
  /** For the builder's own use. */
  readonly tracer: Tracer
  readonly #subprograms: Subprograms
  readonly #resultKind: Kind | undefined

  /** Made by `defineXdp` and `defineFunction`. */
  constructor(tracer: Tracer, subprograms: Subprograms, resultKind?: Kind) {
    this.tracer = tracer
    this.#subprograms = subprograms
    this.#resultKind = resultKind
  }

  // Values

  u8(value: number): Value<'u8'> {
    return this.value('u8', value)
  }
  u16(value: number): Value<'u16'> {
    return this.value('u16', value)
  }
  u32(value: number): Value<'u32'> {
    return this.value('u32', value)
  }
  u64(value: number | bigint): Value<'u64'> {
    return this.value('u64', value)
  }
  s32(value: number): Value<'s32'> {
    return this.value('s32', value)
  }
  s64(value: number | bigint): Value<'s64'> {
    return this.value('s64', value)
  }
  /** A constant of any type. */
  value<K extends Kind>(kind: K, value: number | bigint): Value<K> {
    return new Value(this.tracer, kind, constant(kind, value))
  }
  /** A variable that starts as `value`. */
  let<K extends Kind>(value: Value<K>): Variable<K> {
    return new Variable(this.tracer, value)
  }
  /** One value or the other. Both are computed. */
  select<K extends Kind>(condition: Condition, yes: Value<K>, no: Term<K>): Value<K> {
    const result = this.let(yes)
    this.if(condition.not(), () => result.set(no))
    return result.value
  }
  /** A struct on the stack. Members that `init` leaves out are zero. */
  struct<C extends AnyCodec>(codec: C, init?: Init<C>): Local<C> {
    const local = this.uninitialized(codec)
    initialize(local.place, codec, init)
    return local
  }
  /** A piece of the stack for a codec's type, of which every byte is for you to write before it is read. */
  uninitialized<C extends AnyCodec>(codec: C): Local<C> {
    const base = this.tracer.stackAddress(this.tracer.allocate(codec.size))
    return new Local({ tracer: this.tracer, space: 'stack', base, offset: 0 }, codec)
  }
  /** A verdict from a number that the program computed, as XDP_PASS is 2. */
  verdict(value: Value<'u32'>): VerdictValue {
    return new VerdictValue(value.operand)
  }

  // Control

  /** Ends the program here. Nothing may follow on this path. */
  return(result: R): void {
    this.tracer.terminate({ op: 'return', value: this.#result(result) })
  }

  /** Goes on only where the condition holds; elsewhere the program ends, with `result` or its `otherwise`. */
  require(condition: Condition, result?: R): void {
    const value = result === undefined ? this.tracer.otherwise : this.#result(result)
    const [yes, no] = this.#split(condition.test)
    this.tracer.moveTo(no)
    if (no) this.tracer.terminate({ op: 'return', value })
    this.tracer.moveTo(yes)
  }

  /**
   * Runs `body` where the condition holds. What the body gives back, if anything, is returned from the program. `.elseIf` and
   * `.else` must follow directly; a condition written there is only computed when it is reached.
   */
  if(condition: Condition, body: () => Outcome<R>): Branches<R> {
    const [yes, no] = this.#split(condition.test)
    const ends = this.#trace(yes, body)
    return this.#branches(ends, no)
  }

  /** Runs `body` where the pointer points to something. */
  ifPresent<T>(maybe: Maybe<T>, body: (found: T) => Outcome<R>): Branches<R> {
    const no = this.tracer.branch('!=', 64, maybe.pointer, 0n)
    const ends = this.#trace(this.tracer.point, () => body(maybe.refer()))
    return this.#branches(ends, no)
  }

  /**
   * Runs `body` `times` times (a number known now, at least 1) with the round's number, until `break`. A loop at run time
   * (kernel 5.3); a JavaScript `for` around statements repeats their code instead, which is quicker for a few rounds.
   */
  loop(times: number, body: (round: Value<'u32'>, loop: LoopControl) => Outcome<R>): void {
    if (!Number.isInteger(times) || times < 1 || times > 1 << 23) {
      throw programError('times', `A loop of ${times} rounds; it can be 1 to ${1 << 23}`)
    }
    const { tracer } = this
    const at = statementLocation()
    const outer = tracer.point
    const index: VariableKey = { name: 'round' }
    tracer.writeVariable(index, 0n)
    const { head, keys } = tracer.loopHead(at)
    const headPacket = tracer.point.packet
    const breaks: Point[] = []
    const continues: Point[] = []
    const leave = (points: Point[]) => () => {
      points.push(tracer.point)
      tracer.moveTo(undefined)
    }
    const round = new Value(tracer, 'u32', tracer.readVariable(index))
    continues.push(
      ...this.#trace(tracer.point, () => body(round, { break: leave(breaks), continue: leave(continues) })),
    )
    const next = tracer.join(continues)
    tracer.moveTo(next)
    if (next) {
      if (next.packet !== headPacket) {
        throw programError(
          'loop',
          'The packet is moved inside a loop that goes on afterwards',
          'Leave the loop behind adjustHead or adjustTail.',
          at,
        )
      }
      tracer.writeVariable(index, tracer.alu('add', 32, tracer.readVariable(index), 1n))
      const end = tracer.branch('<', 32, tracer.readVariable(index), BigInt(times))
      tracer.terminate(
        { op: 'jump', yes: { to: head, args: keys.map((key) => tracer.point.variables.get(key)!) } },
        at,
      )
      breaks.push(end)
    }
    const after = tracer.join(breaks)
    if (after) after.stackTop = outer.stackTop
    tracer.moveTo(after)
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
    const { tracer } = this
    const { packet } = tracer.point
    tracer.needBytes(packet.meta, length, undefined, packet.data)
    return new Bytes({ tracer, space: 'packet', base: packet.meta, offset: 0, packet }, length)
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
    const pointer = this.#onStack([[map.key, key]], ([address]) =>
      this.tracer.call('map_lookup_elem', [this.#map(map), address]),
    )
    const place: Place = { tracer: this.tracer, space: 'map', base: pointer, offset: 0 }
    return new Maybe(this.tracer, pointer, () => refTo(place, map.value) as Ref<ValueOf<M>>)
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
        [map.key, key],
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
    const result = this.#onStack([[map.key, key]], ([address]) =>
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
    const index = key instanceof Value ? key.operand : constant('u32', key)
    return new VerdictValue(
      this.tracer.call('redirect_map', [this.#map(map), index, verdictNumber(fallback)]),
    )
  }

  /** The verdict that sends the packet out of the device with this index. */
  redirectToInterface(ifindex: Term<'u32'>): VerdictValue {
    const index = ifindex instanceof Value ? ifindex.operand : constant('u32', ifindex)
    return new VerdictValue(this.tracer.call('redirect', [index, 0n]))
  }

  /** Goes on in the program at `index` of the map, for good; where there is none, or after 33 such jumps, the program continues here. */
  tailCall(map: MapDefinition<'prog_array', AnyCodec, AnyCodec>, index: Term<'u32'>): void {
    const operand = index instanceof Value ? index.operand : constant('u32', index)
    this.tracer.call('tail_call', [this.tracer.context, this.#map(map), operand])
  }

  /**
   * Writes a record into a ring buffer (5.8): `body` fills in what `init` did not, and may not return from the program. `.else`
   * runs where the buffer is full.
   */
  record<VC extends AnyCodec>(
    ring: MapDefinition<'ringbuf', AnyCodec, VC>,
    init: Init<VC>,
    body: (record: Ref<VC>) => void = () => undefined,
  ): Branches<R> {
    const { tracer } = this
    const size = BigInt(ring.value.size)
    const pointer = tracer.call('ringbuf_reserve', [this.#map(ring), size, 0n])
    const no = tracer.branch('!=', 64, pointer, 0n)
    const place: Place = { tracer, space: 'map', base: pointer, offset: 0 }
    const returns = tracer.returns
    const ends = this.#trace(tracer.point, () => {
      initialize(place, ring.value, init)
      body(refTo(place, ring.value))
      tracer.call('ringbuf_submit', [pointer, 0n])
    })
    if (tracer.returns !== returns) {
      throw programError(
        'record',
        'The program may end here while it holds a record of the ring buffer',
        'Find headers and make decisions before x.record.',
      )
    }
    return this.#branches(ends, no)
  }

  /** Copies bytes of the packet, from `offset` on, into memory: also where packets come in several buffers (5.18). Gives 0 or a negative errno. */
  loadBytes(offset: Term<'u32'>, into: Bytes, length: Term<'u32'> = into.length): Value<'s64'> {
    const { tracer } = this
    const term = (value: Term<'u32'>): Operand =>
      value instanceof Value ? value.operand : constant('u32', value)
    const address = this.#address(into.place)
    const result = tracer.call(
      'xdp_load_bytes',
      [tracer.context, term(offset), address, term(length)],
      [into.place.space],
    )
    return new Value(tracer, 's64', result)
  }

  /** Calls a function of this program. */
  call<P extends Parameters, K extends Kind>(
    definition: FunctionDefinition<P, K>,
    args: { readonly [N in keyof P]: Term<P[N]> },
  ): Value<K> {
    const { tracer } = this
    const { movesPacket } = traceFunction(definition, this.#subprograms)
    const operands = Object.entries(definition.parameters).map(([name, kind]) =>
      new Value(tracer, kind, 0n).term(args[name]),
    )
    const dst = tracer.newValue()
    tracer.emit({ op: 'invoke', dst, callee: definition.name, args: [tracer.context, ...operands] })
    tracer.changed('packet', 'map')
    if (movesPacket) tracer.movePacket()
    return new Value(tracer, definition.result, dst)
  }

  /** For the builder's own use: ends what is open at the end of the body. */
  finish(outcome: Outcome<R>): void {
    if (!this.tracer.reachable) return
    const value = outcome === undefined ? this.tracer.otherwise : this.#result(outcome)
    this.tracer.terminate({ op: 'return', value })
  }

  #result(result: R): Operand {
    if (result instanceof VerdictValue) return result.operand
    if (this.#resultKind) return new Value(this.tracer, this.#resultKind, 0n).term(result as Term<Kind>)
    return verdictNumber(result as Verdict)
  }

  /** Runs a body at a place, and gives where it ends: nowhere or one place. */
  #trace(at: Point | undefined, body: () => Outcome<R>): Point[] {
    if (!at) return []
    const { tracer } = this
    const { stackTop } = at
    tracer.moveTo(at)
    const outcome = body()
    if (!tracer.reachable) return []
    if (outcome !== undefined) {
      this.return(outcome)
      return []
    }
    const end = tracer.point
    tracer.moveTo(undefined)
    return [{ ...end, stackTop }]
  }

  /** Goes on behind a branch. When `.else` follows, that is taken back and the code written for its condition moves there. */
  #branches(ends: Point[], no: Point | undefined): Branches<R> {
    const { tracer } = this
    const onto = no && { ...no }
    const join = tracer.join(onto ? [...ends, onto] : ends)
    tracer.moveTo(join)
    const start = join && { point: join, variables: join.variables, inserted: join.block.insts.length }
    const back = (): Map<number, Operand> => {
      if (!start || !onto) {
        // The condition is known: there is no other branch, and nothing to take back.
        return new Map()
      }
      const here = tracer.reachable ? tracer.point : undefined
      const added = start.point.block.insts.slice(start.inserted)
      if (here?.block !== start.point.block || here.variables !== start.variables || !added.every(isPure)) {
        throw programError(
          'else',
          '.elseIf and .else must follow x.if directly',
          'Write conditions that need a header check as an x.if inside .else.',
        )
      }
      const renamed = tracer.unjoin(start.point, onto)
      tracer.moveTo({ ...onto })
      return renamed
    }
    const elseIf = (condition: Condition | undefined, body: () => Outcome<R>): Branches<R> => {
      const renamed = back()
      if (!onto) {
        return this.#branches(ends, undefined)
      }
      const rename = (operand: Operand): Operand =>
        typeof operand === 'number' ? (renamed.get(operand) ?? operand) : operand
      const [yes, rest] = condition ? this.#split(mapTest(condition.test, rename)) : [tracer.point, undefined]
      const more = this.#trace(yes, body)
      return this.#branches([...ends, ...more], rest)
    }
    return { elseIf, else: (body) => void elseIf(undefined, body) }
  }

  /** Tests a condition, and gives the places where it holds and where not. */
  #split(test: Test): [Point | undefined, Point | undefined] {
    const { tracer } = this
    const point = tracer.point
    if (test.op === 'constant') return test.value ? [point, undefined] : [undefined, point]
    const yes = tracer.newBlock(point.versions)
    const no = tracer.newBlock(point.versions)
    this.#test(test, yes, no)
    return [
      { ...point, block: yes },
      { ...point, block: no },
    ]
  }

  #test(test: Test, yes: Block, no: Block): void {
    const { tracer } = this
    if (test.op === 'not') return this.#test(test.test, no, yes)
    if (test.op === 'constant') {
      tracer.terminate({ op: 'jump', yes: { to: test.value ? yes : no, args: [] } })
    } else if (test.op === 'compare') {
      const { comparison, bits, a, b } = test
      tracer.terminate({
        op: 'branch',
        comparison,
        bits,
        a,
        b,
        yes: { to: yes, args: [] },
        no: { to: no, args: [] },
      })
    } else {
      const point = tracer.point
      const middle = tracer.newBlock(point.versions)
      if (test.op === 'and') this.#test(test.left, middle, no)
      else this.#test(test.left, yes, middle)
      tracer.moveTo({ ...point, block: middle })
      this.#test(test.right, yes, no)
    }
  }

  #adjust(helper: HelperName, delta: Term<'s32'>): void {
    const { tracer } = this
    const operand = delta instanceof Value ? delta.s64().operand : constant('s64', delta)
    const result = tracer.call(helper, [tracer.context, operand])
    tracer.unless('==', 64, result, 0n)
    tracer.movePacket()
  }

  #context(offset: number): Value<'u32'> {
    return new Value(this.tracer, 'u32', this.tracer.load('context', 'u32', this.tracer.context, offset))
  }

  #map(map: MapDefinition): number {
    this.#subprograms.useMap(map)
    const dst = this.tracer.newValue()
    this.tracer.emit({ op: 'map', dst, map: map.name })
    return dst
  }

  #address({ base, offset }: Place): number {
    return offset === 0 ? base : this.tracer.alu('add', 64, base, BigInt(offset))
  }

  /** Addresses of keys and values for a helper, which need not be there any more when it returns. */
  #onStack<T>(values: [AnyCodec, unknown][], use: (addresses: number[]) => T): T {
    const { stackTop } = this.tracer.point
    const addresses = values.map(([codec, value]) => {
      if (value instanceof Local) return this.#address((value as Local<AnyCodec>).place)
      if (value instanceof Bytes && value.length === codec.size && !codec.shape) {
        checkPlace(value.place)
        return this.#address(value.place)
      }
      return this.#address(this.struct(codec, value as Init<AnyCodec>).place)
    })
    const result = use(addresses)
    this.tracer.point.stackTop = stackTop
    return result
  }
}
