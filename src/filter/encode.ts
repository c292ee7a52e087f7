// Programs as the kernel takes them for sockets: struct sock_filter (include/uapi/linux/filter.h).
import { BPF_MAXINSNS, BPF_MEMWORDS, JUMP, LOADX_HEADER, RETURN, STORE, decode } from './classic.js'
import { lifetimes } from './lifetimes.js'
import type { Instruction } from './linear.js'

/** Bytes of a `struct sock_filter`. */
const INSTRUCTION_BYTES = 8
/** What one of the two offsets of a conditional jump can hold. */
const FARTHEST = 255

/** A program as `struct sock_filter[]`; undefined when it is more than the kernel takes. Jumps that reach too far get help. */
export function encode(program: readonly Instruction[]): Uint8Array | undefined {
  const placed = withLongJumps(acceptable(program))
  if (placed.length > BPF_MAXINSNS) return undefined
  const bytes = new Uint8Array(placed.length * INSTRUCTION_BYTES)
  const view = new DataView(bytes.buffer)
  placed.forEach(({ code, k, yes, no }, index) => {
    const at = index * INSTRUCTION_BYTES
    view.setUint16(at, code, true)
    if (code === JUMP) {
      view.setUint32(at + 4, yes - index - 1, true)
      return
    }
    if (yes >= 0) {
      view.setUint8(at + 2, yes - index - 1)
      view.setUint8(at + 3, no - index - 1)
    }
    view.setUint32(at + 4, k, true)
  })
  return bytes
}

/** The first offset that the kernel takes for its own: it counts from the end of the numbers (SKF_AD_OFF and others). */
const SPECIAL_OFFSETS = 0x8000_0000

/**
 * The same program in a form that the kernel takes: it wants every cell written before it is read, and knows offsets by which it
 * would give more than the packet. libpcap's own interpreter starts with zeros, and finds nothing there.
 */
function acceptable(program: readonly Instruction[]): readonly Instruction[] {
  const unwritten = lifetimes(program)[0]
  const zeros: Instruction[] = []
  for (let cell = 0; cell < BPF_MEMWORDS; cell++) {
    if (((unwritten >>> cell) & 1) !== 0) zeros.push({ code: STORE, k: cell, yes: -1, no: -1 })
  }
  const moved = (target: number): number => (target < 0 ? -1 : target + zeros.length)
  return [
    // A is 0 at the start.
    ...zeros,
    ...program.map((instruction): Instruction => {
      const { code, k, yes, no } = instruction
      const impossible = k >= SPECIAL_OFFSETS && (decode(code).op === 'load' || code === LOADX_HEADER)
      return impossible
        ? { code: RETURN, k: 0, yes: -1, no: -1 }
        : { code, k, yes: moved(yes), no: moved(no) }
    }),
  ]
}

/** Puts a `ja` behind each conditional jump for each of its targets that is more than 255 instructions away. */
function withLongJumps(program: readonly Instruction[]): Instruction[] {
  const far = program.map(() => ({ yes: false, no: false }))
  const places = (): number[] => {
    let at = 0
    return program.map((_, index) => {
      const here = at
      at += 1 + Number(far[index].yes) + Number(far[index].no)
      return here
    })
  }
  let at = places()
  // Each helping jump moves what is behind it, so that others may become too far.
  for (let changed = true; changed;) {
    changed = false
    program.forEach(({ code, yes, no }, index) => {
      if (yes < 0 || code === JUMP) return
      const reach = at[index] + 1 + FARTHEST
      for (const [side, target] of [
        ['yes', yes],
        ['no', no],
      ] as const) {
        if (far[index][side] || at[target] <= reach) continue
        far[index][side] = true
        changed = true
      }
    })
    at = places()
  }
  return program.flatMap((instruction, index) => {
    const { code, yes, no } = instruction
    if (yes < 0 || code === JUMP) return [{ ...instruction, yes: yes < 0 ? -1 : at[yes] }]
    const helpers: Instruction[] = []
    const aim = (side: 'yes' | 'no', target: number): number => {
      if (!far[index][side]) return at[target]
      helpers.push({ code: JUMP, k: 0, yes: at[target], no: -1 })
      return at[index] + helpers.length
    }
    const aimed = { ...instruction, yes: aim('yes', yes), no: aim('no', no) }
    return [aimed, ...helpers]
  })
}
