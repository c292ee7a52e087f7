// What to change when the verifier objects: its phrases (messages of kernel/bpf/verifier.c) as advice in one sentence.

type Advice = string | ((found: RegExpExecArray, log: string) => string)

/** The first that fits counts. Phrases differ among kernels: only the words that stayed are looked for. */
const advices: readonly (readonly [RegExp, Advice])[] = [
  // Packets
  [
    /invalid access to packet, off=(-?\d+) size=(\d+), R\d+\(id=0/,
    ([, offset, size]) =>
      Number(offset) < 0
        ? 'Read at or behind the start of the packet: what is before it needs data_meta, or bpf_xdp_adjust_head.'
        : `Compare data + ${Number(offset) + Number(size)} with data_end first, and read only in the branch where that much is there.`,
  ],
  [
    /invalid access to packet/,
    'Compare the end of the access with data_end first, in the branch that leads here.',
  ],
  [
    /math between (\w+) pointer and register with unbounded|math between (\w+) pointer and/,
    ([, unbounded, other]) =>
      `Bound the number before adding it to a ${unbounded ?? other} pointer: \`&= mask\`, or a comparison whose failing branch leaves.`,
  ],
  [
    /(?:BPF_ATOMIC|BPF_XADD) stores into R\d+ (\w+) is not allowed/,
    ([, kind]) =>
      `Atomic operations are for maps and the stack: a ${kind === 'ctx' ? 'context' : 'packet'} takes a load, an addition and a store.`,
  ],
  [
    /misaligned (\w+) access/,
    ([, kind]) =>
      kind === 'stack'
        ? 'Use an offset from r10 that is a multiple of the size of the access.'
        : `Use an offset into the ${kind} that is a multiple of the size, smaller loads, or no strictAlignment.`,
  ],
  // Values that may be null, or are no pointers any more
  [
    /R(\d+) invalid mem access '(\w+)_or_null'/,
    ([, register, kind]) => `Test r${register} for zero before using it: ${whyNull(kind)}.`,
  ],
  [
    /R(\d+) invalid mem access '(?:scalar|inv)'/,
    ([, register], log) => `r${register} is a number here and no pointer: ${whyScalar(log)}.`,
  ],
  [
    /R(\d+) invalid mem access 'map_ptr'/,
    'Look the value up with bpf_map_lookup_elem: a map itself cannot be read.',
  ],
  [
    /write into (?:map|mem) forbidden|R\d+ cannot write into|write into map forbidden/,
    'Programs may only read this map (BPF_F_RDONLY_PROG, or .rodata): make it writable, or write to another.',
  ],
  [
    /read from map forbidden/,
    'Programs may only write this map (BPF_F_WRONLY_PROG): make it readable, or read another.',
  ],
  [
    /invalid access to map value, value_size=(\d+) off=(-?\d+) size=(\d+)/,
    ([, value, offset, size]) =>
      `Stay within the ${value} bytes of the value: this reaches for bytes ${offset} to ${Number(offset) + Number(size) - 1}.`,
  ],
  [
    /outside of the (?:allowed )?memory range|invalid access to map/,
    'Bound the offset by the size of the value.',
  ],
  [
    /R(\d+) unbounded memory access|R(\d+) min value is negative/,
    ([, unbounded, negative]) =>
      `Bound r${unbounded ?? negative} below and above first: \`&= mask\`, or an unsigned comparison whose failing branch leaves.`,
  ],
  // The context
  [
    /invalid bpf_context access off=(\d+) size=(\d+)/,
    'Read the fields of the context whole, where they are: for XDP the 32-bit ones of struct xdp_md, 24 bytes long and not to be written.',
  ],
  [/dereference of modified ctx/, 'Read the context at a constant offset from r1 as it was handed in.'],
  // Registers
  [/R0 !read_ok/, 'Set r0 on every path before exit: it is the verdict.'],
  [
    /R(\d+) !read_ok/,
    ([, register]) =>
      Number(register) >= 1 && Number(register) <= 5
        ? `Give r${register} a value on every path; calls destroy r1 to r5, so keep what must survive in r6 to r9.`
        : `Give r${register} a value on every path that leads here.`,
  ],
  [/frame pointer is read only/, 'r10 cannot be written: copy it to another register.'],
  [/At program exit the register R0/, 'Set r0 to a verdict before exit.'],
  [
    /leaks addr|partial copy of pointer/,
    'Keep addresses of the kernel out of maps, packets and the verdict; or load with CAP_PERFMON.',
  ],
  [
    /pointer arithmetic with (\S+) operator|pointer (\S+) pointer prohibited|subtract pointer from scalar|pointer arithmetic on \w+ prohibited|arithmetic on .* prohibited/,
    'Of pointers only sums and differences with a number are allowed, and the difference of two packet pointers.',
  ],
  [
    /div by zero/,
    'Division by the constant zero is refused: a divisor in a register may be zero, and gives zero.',
  ],
  [/invalid shift (\d+)/, 'Shift by less than the width: at most 63 bits, or 31 in 32-bit operations.'],
  // The stack
  [
    /invalid (?:indirect )?(?:read from|access to) stack|invalid (?:indirect )?read from stack/,
    'Write these bytes of the stack on every path before they are read, or load with CAP_PERFMON.',
  ],
  [
    /combined stack size of (\d+) calls is (\d+)/,
    ([, calls, size]) =>
      `The ${calls} functions together have 512 bytes of stack and want ${size}: put the larger buffers into a per-CPU map.`,
  ],
  [
    /to stack|from stack|stack R\d+/,
    'The stack is the 512 bytes below r10: stay within what was set aside there.',
  ],
  // The shape of the program
  [/unreachable insn/, 'Remove the instruction, or the jump that skips it.'],
  [/infinite loop/, 'Change something in each round that leads to the end of the loop: nothing does here.'],
  [/back-edge/, 'Unroll the loop, or load with CAP_BPF: loops are for the privileged, and for kernel 5.3.'],
  [
    // BPF_COMPLEXITY_LIMIT_JMP_SEQ
    /sequence of \d+ jumps is too complex/,
    'The verifier follows at most 8192 comparisons in a row: look for what is compared with in a map.',
  ],
  [
    /program is too large|too complex|too many states|insns? limit|too many instructions/,
    'The verifier follows a million steps over all paths: make loops shorter, use bpf_loop, or split the program by tail calls.',
  ],
  [
    /cannot be patched due to 16-bit range/,
    'A function of the program is too long for the jumps within it once the verifier has added its own code: split it into functions, or by tail calls.',
  ],
  [
    /call stack of \d+ frames is too deep|call stack|recursive/,
    'Subprograms nest at most 8 deep and cannot call themselves.',
  ],
  [
    /jump out of range|last insn is not|jump into the middle/,
    'Every path must end in exit, and every jump on an instruction of the same function.',
  ],
  [/unknown opcode|reserved fields/, 'The instruction is malformed, or newer than this kernel.'],
  // Helpers and kernel functions
  [
    /cannot pass map_type \d+ into func (?:bpf_)?(\w+)/,
    ([, helper]) => `bpf_${helper} is for maps of another type: ${mapsFor(helper)}.`,
  ],
  [/expected prog array/, 'Tail calls go through a map of type prog_array.'],
  [
    /R(\d+) type=(\w+) expected=(\w+)/,
    ([, register, given, wanted]) =>
      `Hand in ${inWords(wanted)} as r${register}: ${inWords(given)} is there.`,
  ],
  [
    /has to have BTF in order to use bpf_spin_lock|doesn't have a valid bpf_spin_lock|no valid bpf_spin_lock/,
    'Put a struct bpf_spin_lock into the value, and give the map its BTF.',
  ],
  [
    /bpf_(?:rcu_read|preempt|spin|res_spin)_?\w*lock.*(?:region|missing)|cannot be used inside/,
    'Unlock on every path before exit.',
  ],
  [
    /Unreleased reference|reference leak/,
    'Release what was acquired on every path: a record of a ring buffer by bpf_ringbuf_submit or bpf_ringbuf_discard.',
  ],
  [
    /cannot call GPL/,
    'Load the program with a GPL-compatible licence, as the default is; in C: `char _license[] SEC("license") = "GPL";`.',
  ],
  [
    /metadata kfuncs require device-bound|device-bound/,
    'Load the program with boundTo, for the device it will run on.',
  ],
  [
    /calling kernel function (\S+) is not allowed/,
    ([, name]) => `The kernel does not offer ${name} to this type of program.`,
  ],
  [
    /kernel btf_id \d+ is not a function|kernel function/,
    "Look the id up in the BTF of this kernel: kernelBtf().find(name, 'func').",
  ],
  [
    /unknown func|invalid func|cannot use helper/,
    'This kernel, or this type of program, does not have that helper.',
  ],
]

/** What to change, in one sentence. `line` is the objection, `log` all that the verifier said. */
export function adviceFor(line: string, log: string): string {
  for (const [pattern, advice] of advices) {
    const found = pattern.exec(line)
    if (found) return typeof advice === 'string' ? advice : advice(found, log)
  }
  return 'The whole log is in the `log` property of the error.'
}

function whyNull(kind: string): string {
  if (kind === 'map_value') return 'there is no value for a key that is not in the map'
  if (kind.startsWith('ringbuf') || kind === 'mem') return 'there is no record when the ring buffer is full'
  return 'it may be null'
}

function whyScalar(log: string): string {
  if (/call bpf_xdp_adjust_(?:head|tail|meta)/.test(log)) {
    return 'moving an end of the packet ends all pointers into it, so read data and data_end again and check bounds anew'
  }
  if (/call bpf_ringbuf_(?:submit|discard)/.test(log)) {
    return 'a record belongs to the reader once it is submitted or discarded, so write to it before'
  }
  if (/call bpf_\w*(?:release|unlock|free)/.test(log)) return 'what was released cannot be used any more'
  return 'pointers come from the context, the stack, and helpers such as bpf_map_lookup_elem'
}

function mapsFor(helper: string): string {
  if (helper === 'redirect_map') return 'devmap, cpumap or xskmap'
  if (helper.startsWith('ringbuf')) return 'ringbuf'
  if (helper === 'tail_call') return 'prog_array'
  if (helper.startsWith('perf_event')) return 'perf_event_array'
  return 'see bpf-helpers(7)'
}

function inWords(type: string): string {
  const words: Record<string, string> = {
    scalar: 'a number',
    inv: 'a number',
    ctx: 'the context',
    fp: 'a pointer into the stack',
    map_ptr: 'a map',
    ringbuf_mem: 'a record that was reserved',
    map_value: 'a value of a map',
    pkt: 'a pointer into the packet',
  }
  return words[type] ?? type
}
