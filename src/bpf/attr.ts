// `union bpf_attr`, one member a command: fields declared in order, laid out as C would, sized by what is used.
import { check } from '../kernel/errors.js'
import { type Pointers, native } from '../kernel/native.js'

type Fields = Readonly<Record<string, number>>

/** What a field is given: a number, a buffer whose address it takes, or text for a character array. */
export type FieldValue = number | bigint | string | ArrayBufferView | ArrayBuffer | null | undefined

/** A member of the union: field sizes in bytes, in the order of the header. */
export interface AttrLayout<F extends Fields> {
  readonly fields: F
  readonly offsets: { readonly [K in keyof F]: number }
}

/** Lays fields out: 4-byte ones at multiples of 4, 8-byte ones at multiples of 8, text where it falls. */
function layout<const F extends Fields>(fields: F): AttrLayout<F> {
  const offsets: Record<string, number> = {}
  let at = 0
  for (const [name, size] of Object.entries(fields)) {
    const align = size === 8 ? 8 : 4
    at = Math.ceil(at / align) * align
    offsets[name] = at
    at += size
  }
  return { fields, offsets: offsets as { [K in keyof F]: number } }
}

/** A filled attr, ready for the call, and readable after it. */
export class Attr<F extends Fields> {
  readonly bytes: Uint8Array
  readonly pointers: Pointers
  readonly #view: DataView
  readonly #layout: AttrLayout<F>

  /**
   * Fields that are undefined, zero or null are left zero, and the attr ends behind the last one that is
   * not: an older kernel refuses (E2BIG) an attr with anything but zeros past the end it knows. `atLeast` names a
   * field that the kernel writes, so that there is room for it.
   */
  constructor(
    layout: AttrLayout<F>,
    values: { readonly [K in keyof F]?: FieldValue },
    atLeast?: keyof F & string,
  ) {
    const used = Object.keys(layout.fields).filter((name) => isSet(values[name]) || name === atLeast)
    const end = Math.max(0, ...used.map((name) => layout.offsets[name] + layout.fields[name]))
    this.bytes = new Uint8Array(end)
    this.#view = new DataView(this.bytes.buffer)
    this.pointers = []
    this.#layout = layout
    for (const name of used) this.set(name, values[name])
  }

  set(name: keyof F & string, value: FieldValue): void {
    const at = this.#layout.offsets[name]
    if (typeof value === 'string') {
      // Kernel names are ASCII; the array keeps a zero at its end.
      for (let i = 0; i < value.length && i < this.#layout.fields[name] - 1; i++) {
        this.#view.setUint8(at + i, value.charCodeAt(i))
      }
    } else if (typeof value === 'object' && value !== null) {
      this.pointers.push(at, value)
    } else if (typeof value === 'bigint') {
      this.#view.setBigUint64(at, value, true)
    } else {
      // Numbers are flags, counts and descriptors: 32 bits, in 8-byte fields too. -1 as a descriptor stays -1.
      this.#view.setUint32(at, value ?? 0, true)
    }
  }

  /** A 4-byte field, after the call. */
  get(name: keyof F & string): number {
    return this.#view.getUint32(this.#layout.offsets[name], true)
  }
}

/**
 * Writes the addresses of buffers into a structure that an attr points to. The buffers must stay referenced until the call
 * is done.
 */
export function placePointers(structure: Uint8Array, pointers: Pointers): void {
  check(native.writePointers(structure, pointers), 'writePointers')
}

function isSet(value: FieldValue): boolean {
  return value !== undefined && value !== null && value !== 0 && value !== 0n && value !== ''
}

export const MAP_CREATE = layout({
  map_type: 4,
  key_size: 4,
  value_size: 4,
  max_entries: 4,
  map_flags: 4,
  inner_map_fd: 4,
  numa_node: 4,
  map_name: 16,
  map_ifindex: 4,
  btf_fd: 4,
  btf_key_type_id: 4,
  btf_value_type_id: 4,
  btf_vmlinux_value_type_id: 4,
  map_extra: 8,
})

/** BPF_MAP_*_ELEM and BPF_MAP_GET_NEXT_KEY (whose `value` is the next key). */
export const MAP_ELEM = layout({ map_fd: 4, key: 8, value: 8, flags: 8 })

export const MAP_BATCH = layout({
  in_batch: 8,
  out_batch: 8,
  keys: 8,
  values: 8,
  count: 4,
  map_fd: 4,
  elem_flags: 8,
  flags: 8,
})

export const PROG_LOAD = layout({
  prog_type: 4,
  insn_cnt: 4,
  insns: 8,
  license: 8,
  log_level: 4,
  log_size: 4,
  log_buf: 8,
  kern_version: 4,
  prog_flags: 4,
  prog_name: 16,
  prog_ifindex: 4,
  expected_attach_type: 4,
  prog_btf_fd: 4,
  func_info_rec_size: 4,
  func_info: 8,
  func_info_cnt: 4,
  line_info_rec_size: 4,
  line_info: 8,
  line_info_cnt: 4,
  attach_btf_id: 4,
  attach_prog_fd: 4,
  core_relo_cnt: 4,
  fd_array: 8,
  core_relos: 8,
  core_relo_rec_size: 4,
  log_true_size: 4,
})

export const PROG_BIND_MAP = layout({ prog_fd: 4, map_fd: 4, flags: 4 })

export const BTF_LOAD = layout({
  btf: 8,
  btf_log_buf: 8,
  btf_size: 4,
  btf_log_size: 4,
  btf_log_level: 4,
})

export const OBJ = layout({ pathname: 8, bpf_fd: 4, file_flags: 4 })

export const TEST_RUN = layout({
  prog_fd: 4,
  retval: 4,
  data_size_in: 4,
  data_size_out: 4,
  data_in: 8,
  data_out: 8,
  repeat: 4,
  duration: 4,
  ctx_size_in: 4,
  ctx_size_out: 4,
  ctx_in: 8,
  ctx_out: 8,
  flags: 4,
  cpu: 4,
  batch_size: 4,
})

/** BPF_*_GET_NEXT_ID and BPF_*_GET_FD_BY_ID. */
export const GET_ID = layout({ id: 4, next_id: 4, open_flags: 4 })

export const INFO = layout({ bpf_fd: 4, info_len: 4, info: 8 })

export const LINK_CREATE = layout({ prog_fd: 4, target_ifindex: 4, attach_type: 4, flags: 4 })
export const LINK_UPDATE = layout({ link_fd: 4, new_prog_fd: 4, flags: 4, old_prog_fd: 4 })
export const LINK_DETACH = layout({ link_fd: 4 })
export const ENABLE_STATS = layout({ type: 4 })
