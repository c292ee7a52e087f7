// Programs that the verifier rejects, one fault each. The line at fault ends in `// !`, where there is one.
import {
  type Code,
  add,
  atomic,
  call,
  callKernel,
  callLocal,
  div,
  exit,
  jump,
  jumpIf,
  label,
  load,
  loadMap,
  lsh,
  mov,
  mul,
  r0,
  r1,
  r10,
  r2,
  r3,
  r4,
  r5,
  r6,
  r7,
  raw,
  store,
  sub,
} from '../../src/bpf/asm.js'
import { type Xdp, defineFunction, defineMap, defineXdp } from '../../src/bpf/builder/index.js'
import { kernelBtf } from '../../src/bpf/btf/index.js'
import { BpfMap, BpfProgram, type LoadOptions, bytes, captureSources, u32 } from '../../src/bpf/index.js'

/** A rejected program, in instructions or built. */
export interface Rejected {
  code?: () => Code
  body?: (x: Xdp) => unknown
  options?: Partial<LoadOptions>
  /** Rejected only for those who may not see the addresses of the kernel: without CAP_PERFMON. */
  unprivileged?: boolean
  /** The oldest kernel that knows what is asked. */
  since?: readonly [number, number]
}

/** r0 = the value of key 0 of a map, or null. */
const lookUp = (map: string): Code => [
  store('u32', r10, -4, 0),
  mov(r2, r10),
  add(r2, -4),
  loadMap(r1, map),
  call('map_lookup_elem'),
]

/** r2 = the start of the packet; goes to `short` unless it has `length` bytes. */
const checked = (length: number): Code => [
  load('u32', r2, r1, 0),
  load('u32', r3, r1, 4),
  mov(r4, r2),
  add(r4, length),
  jumpIf(r4, '>', r3, 'short'),
]

const pass: Code = [label('short'), mov(r0, 2), exit()]

const kernelFunction = (name: string): number => kernelBtf().find(name, 'func') ?? 0

const flows = defineMap({ type: 'hash', name: 'flows', key: u32, value: u32, maxEntries: 1 })

const alsoLarge = defineFunction({ name: 'also_large', parameters: {}, result: 'u32' }, (x) => {
  const large = x.struct(bytes(300))
  x.loadBytes(0, large.fields, 300)
  return x.random()
})

/** By what is wrong with them. */
export const rejected: Readonly<Record<string, Rejected>> = {
  // Packets
  'reads the packet without a bounds check': {
    code: () => [
      load('u32', r2, r1, 0),
      load('u8', r0, r2, 0), // !
      exit(),
    ],
  },
  'checks bounds on the wrong side': {
    code: () => [
      load('u32', r2, r1, 0),
      load('u32', r3, r1, 4),
      mov(r4, r2),
      add(r4, 14),
      jumpIf(r4, '>', r3, 'short'),
      mov(r0, 2),
      exit(),
      label('short'),
      load('u8', r0, r2, 0), // !
      exit(),
    ],
  },
  'checks for fewer bytes than it reads': {
    code: () => [
      checked(14),
      load('u32', r0, r2, 12), // !
      exit(),
      pass,
    ],
  },
  'uses a packet pointer after moving the head': {
    code: () => [
      mov(r7, r1),
      checked(14),
      mov(r6, r2),
      mov(r1, r7),
      mov(r2, 4),
      call('xdp_adjust_head'),
      load('u8', r0, r6, 0), // !
      exit(),
      pass,
    ],
  },
  'adds an unbounded number to a packet pointer': {
    code: () => [
      mov(r6, r1),
      call('get_prandom_u32'),
      load('u32', r2, r6, 0),
      load('u32', r3, r6, 4),
      lsh(r0, 32),
      add(r2, r0), // !
      mov(r0, 2),
      exit(),
    ],
  },
  'adds to a counter inside the packet': {
    code: () => [
      checked(14),
      mov(r5, 1),
      atomic('add', 'u32', r2, 0, r5), // !
      pass,
    ],
  },
  'reads at an odd address, with strict alignment': {
    options: { strictAlignment: true },
    code: () => [
      checked(14),
      load('u32', r0, r2, 0), // !
      exit(),
      pass,
    ],
  },
  // The context
  'reads behind the context': {
    code: () => [
      load('u32', r0, r1, 100), // !
      exit(),
    ],
  },
  'writes to the context': {
    code: () => [
      store('u32', r1, 0, 0), // !
      mov(r0, 2),
      exit(),
    ],
  },
  'reads the context by another size': {
    code: () => [
      load('u16', r0, r1, 0), // !
      exit(),
    ],
  },
  // Maps
  'uses a looked-up value without testing it': {
    code: () => [
      lookUp('flows'),
      load('u64', r0, r0, 0), // !
      exit(),
    ],
  },
  'reads behind the value of a map': {
    code: () => [
      lookUp('flows'),
      jumpIf(r0, '==', 0, 'out'),
      load('u64', r0, r0, 8), // !
      label('out'),
      exit(),
    ],
  },
  'indexes a value with an unbounded number': {
    code: () => [
      lookUp('flows'),
      jumpIf(r0, '==', 0, 'out'),
      mov(r6, r0),
      call('get_prandom_u32'),
      add(r6, r0), // !
      load('u8', r0, r6, 0),
      label('out'),
      exit(),
    ],
  },
  'writes into a value that programs may only read': {
    code: () => [
      lookUp('constants'),
      jumpIf(r0, '==', 0, 'out'),
      store('u64', r0, 0, 1), // !
      label('out'),
      exit(),
    ],
  },
  'updates a map that programs may only read': {
    code: () => [
      store('u64', r10, -8, 0),
      mov(r2, r10),
      add(r2, -8),
      mov(r3, r2),
      loadMap(r1, 'constants'),
      mov(r4, 0),
      call('map_update_elem'), // !
      exit(),
    ],
  },
  'redirects through a map that is for something else': {
    code: () => [
      loadMap(r1, 'flows'),
      mov(r2, 0),
      mov(r3, 2),
      call('redirect_map'), // !
      exit(),
    ],
  },
  'gives a helper a number where it wants a pointer': {
    code: () => [
      loadMap(r1, 'flows'),
      mov(r2, 7),
      call('map_lookup_elem'), // !
      mov(r0, 2),
      exit(),
    ],
  },
  'hands a helper the context instead of a map': {
    code: () => [
      mov(r2, 0),
      mov(r3, 2),
      call('redirect_map'), // !
      exit(),
    ],
  },
  'tail-calls through an array of numbers': {
    code: () => [
      loadMap(r2, 'numbers'),
      mov(r3, 0),
      call('tail_call'), // !
      mov(r0, 2),
      exit(),
    ],
  },
  'locks a value without a lock in it': {
    code: () => [
      lookUp('flows'),
      jumpIf(r0, '==', 0, 'out'),
      mov(r1, r0),
      call('spin_lock'), // !
      label('out'),
      mov(r0, 2),
      exit(),
    ],
  },
  // Ring buffers
  'never submits a reserved record': {
    code: () => [
      loadMap(r1, 'events'),
      mov(r2, 8),
      mov(r3, 0),
      call('ringbuf_reserve'),
      mov(r0, 2),
      exit(), // !
    ],
  },
  'fills a record that may not have been reserved': {
    code: () => [
      loadMap(r1, 'events'),
      mov(r2, 8),
      mov(r3, 0),
      call('ringbuf_reserve'),
      store('u64', r0, 0, 1), // !
      mov(r1, r0),
      mov(r2, 0),
      call('ringbuf_submit'),
      mov(r0, 2),
      exit(),
    ],
  },
  'writes to a record after submitting it': {
    code: () => [
      loadMap(r1, 'events'),
      mov(r2, 8),
      mov(r3, 0),
      call('ringbuf_reserve'),
      jumpIf(r0, '==', 0, 'short'),
      mov(r6, r0),
      mov(r1, r0),
      mov(r2, 0),
      call('ringbuf_submit'),
      store('u64', r6, 0, 1), // !
      pass,
    ],
  },
  'submits what was not reserved': {
    code: () => [
      mov(r1, r10),
      mov(r2, 0),
      call('ringbuf_submit'), // !
      mov(r0, 2),
      exit(),
    ],
  },
  // Registers, the stack
  'reads a register that was never written': {
    code: () => [
      mov(r0, r7), // !
      exit(),
    ],
  },
  'reads an argument after a call': {
    code: () => [
      call('ktime_get_ns'),
      mov(r0, r1), // !
      exit(),
    ],
  },
  'ends without a verdict': {
    code: () => [
      exit(), // !
    ],
  },
  'writes to the frame pointer': {
    code: () => [
      mov(r10, 1), // !
      exit(),
    ],
  },
  'writes below the stack': {
    code: () => [
      store('u64', r10, -520, 0), // !
      mov(r0, 0),
      exit(),
    ],
  },
  'reads the stack across a boundary': {
    code: () => [
      store('u64', r10, -16, 0),
      store('u64', r10, -8, 0),
      load('u64', r0, r10, -12), // !
      exit(),
    ],
  },
  'reads stack that was never written': {
    unprivileged: true,
    code: () => [
      load('u64', r0, r10, -8), // !
      exit(),
    ],
  },
  'gives a helper stack that was never written': {
    unprivileged: true,
    code: () => [
      mov(r2, r10),
      add(r2, -4),
      loadMap(r1, 'flows'),
      call('map_lookup_elem'), // !
      mov(r0, 2),
      exit(),
    ],
  },
  'puts a pointer into a map': {
    unprivileged: true,
    code: () => [
      mov(r6, r1),
      lookUp('flows'),
      jumpIf(r0, '==', 0, 'short'),
      store('u64', r0, 0, r6), // !
      pass,
    ],
  },
  'returns a pointer': {
    unprivileged: true,
    code: () => [
      mov(r0, r1),
      exit(), // !
    ],
  },
  // Arithmetic
  'multiplies a pointer': {
    code: () => [
      mul(r1, 2), // !
      mov(r0, 2),
      exit(),
    ],
  },
  'adds two pointers': {
    code: () => [
      checked(14),
      add(r2, r3), // !
      pass,
    ],
  },
  'subtracts a pointer from a number': {
    code: () => [
      mov(r0, 0),
      sub(r0, r1), // !
      exit(),
    ],
  },
  'divides by the constant zero': {
    code: () => [
      mov(r0, 1),
      div(r0, 0), // !
      exit(),
    ],
  },
  'shifts by the width of the register': {
    code: () => [
      mov(r0, 1),
      lsh(r0, 64), // !
      exit(),
    ],
  },
  // The shape of the program
  'has code that nothing leads to': {
    code: () => [
      mov(r0, 0),
      exit(),
      mov(r0, 1), // !
      exit(),
    ],
  },
  'loops forever': {
    code: () => [
      mov(r0, 0),
      label('top'),
      jump('top'), // !
    ],
  },
  'loops longer than the verifier follows': {
    code: () => [
      mov(r6, 0),
      label('top'),
      call('get_prandom_u32'),
      add(r6, 1),
      jumpIf(r6, '<', 1_000_000, 'top'), // !
      mov(r0, 2),
      exit(),
    ],
  },
  'does not end': {
    code: () => [
      mov(r0, 0), // !
    ],
  },
  'jumps out of the program': {
    code: () => [
      raw({ opcode: 0x05, dst: 0, src: 0, offset: 100, imm: 0 }), // !
      exit(),
    ],
  },
  'has an opcode that is none': {
    code: () => [
      raw({ opcode: 0xff, dst: 0, src: 0, offset: 0, imm: 0 }), // !
      exit(),
    ],
  },
  'has something in a field that must be empty': {
    code: () => [raw({ opcode: 0x95, dst: 1, src: 0, offset: 0, imm: 0 })],
  },
  'calls itself': {
    code: () => [
      callLocal('f'),
      exit(),
      label('f'),
      callLocal('f'), // !
      exit(),
    ],
  },
  'nests subprograms too deep': {
    code: () => [
      callLocal('f1'),
      exit(),
      [1, 2, 3, 4, 5, 6, 7, 8].map((n) => [label(`f${n}`), callLocal(`f${n + 1}`), exit()]), // !
      label('f9'),
      mov(r0, 2),
      exit(),
    ],
  },
  'needs more stack than there is, with its subprogram': {
    code: () => [
      store('u64', r10, -400, 0),
      callLocal('f'),
      exit(),
      label('f'),
      store('u64', r10, -400, 0),
      mov(r0, 2),
      exit(),
    ],
  },
  // Helpers and kernel functions
  'calls a helper of other types of programs': {
    code: () => [
      call('skb_load_bytes'), // !
      exit(),
    ],
  },
  'calls a helper that is not there': {
    code: () => [
      call(9999), // !
      exit(),
    ],
  },
  'calls a GPL-only helper under another licence': {
    options: { license: 'Proprietary' },
    code: () => [
      mov(r1, r10),
      mov(r2, 8),
      call('trace_printk'), // !
      mov(r0, 2),
      exit(),
    ],
  },
  'asks a helper for a negative size': {
    code: () => [
      loadMap(r1, 'events'),
      mov(r2, r10),
      mov(r3, -1),
      mov(r4, 0),
      call('ringbuf_output'), // !
      mov(r0, 2),
      exit(),
    ],
  },
  'calls a kernel function that is none': {
    since: [5, 13],
    code: () => [callKernel(1), exit()],
  },
  'calls a kernel function that is not for programs': {
    since: [5, 13],
    code: () => [
      callKernel(kernelFunction('dev_get_by_index')), // !
      mov(r0, 2),
      exit(),
    ],
  },
  'reads packet metadata without being bound to a device': {
    since: [6, 3],
    code: () => [
      mov(r2, r10),
      add(r2, -8),
      callKernel(kernelFunction('bpf_xdp_metadata_rx_timestamp')),
      mov(r0, 2),
      exit(),
    ],
  },
  'never unlocks what it locked': {
    since: [6, 2],
    code: () => [
      callKernel(kernelFunction('bpf_rcu_read_lock')),
      mov(r0, 2),
      exit(), // !
    ],
  },
  // Built
  'builder: fills more than a struct holds': {
    body: (x) => {
      const four = x.struct(bytes(4))
      x.loadBytes(0, four.fields, 40) // !
    },
  },
  'builder: more work than the verifier follows': {
    body: (x) => {
      const sum = x.let(x.random())
      x.loop(8_000_000, () => {
        sum.set(sum.value.mul(3).add(1))
      })
      x.require(sum.value.eq(1))
    },
  },
  'builder: redirects through a map of something else': {
    body: (x) => x.redirectTo(flows as never, x.queue), // !
  },
  'builder: needs more stack than there is, with its function': {
    body: (x) => {
      const large = x.struct(bytes(300))
      x.loadBytes(0, large.fields, 300)
      x.require(x.call(alsoLarge, {}).eq(1))
    },
  },
}

/** Tries to load it: throws what the user gets. Maps of its own, gone when it returns. */
export function loadRejected({ code, body, options }: Rejected): void {
  if (body)
    return defineXdp('rejected', body as (x: Xdp) => undefined)
      .load()
      .close()
  const maps = {
    flows: BpfMap.create({ type: 'hash', name: 'flows', key: 4, value: 8, maxEntries: 1 }),
    numbers: BpfMap.create({ type: 'array', name: 'numbers', value: 8, maxEntries: 1 }),
    constants: BpfMap.create({
      type: 'array',
      name: 'constants',
      value: 8,
      maxEntries: 1,
      flags: 1 << 7, // BPF_F_RDONLY_PROG
    }),
    events: BpfMap.create({ type: 'ringbuf', name: 'events', maxEntries: 4096 }),
  }
  try {
    const written = captureSources(code ?? (() => []))
    BpfProgram.load({ type: 'xdp', name: 'rejected', code: written, maps, ...options }).close()
  } finally {
    for (const map of Object.values(maps)) map.close()
  }
}
