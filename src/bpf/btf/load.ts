// Loading BTF into the kernel (BPF_BTF_LOAD, kernel 4.18).
import { StateError } from '../../kernel/errors.js'
import { native } from '../../kernel/native.js'
import { Attr, BTF_LOAD, GET_ID, INFO, placePointers } from '../attr.js'
import { ENOENT, EPERM } from '../../kernel/errno.js'
import { bpf, bpfChecked, bpfError } from '../syscall.js'
import { Btf } from './decode.js'
import { BtfError } from './types.js'

const LOG_BYTES = 64 * 1024

/** BTF in the kernel, by a descriptor that this object owns. Programs and maps made with it keep it alive. */
export class BtfHandle {
  #fd: number

  constructor(fd: number) {
    this.#fd = fd
  }

  /** The descriptor. Throws `StateError` once closed. */
  get fd(): number {
    if (this.#fd < 0) throw new StateError('The BTF is closed')
    return this.#fd
  }

  /** Lets go of the descriptor. Closing twice is harmless. */
  close(): void {
    if (this.#fd >= 0) native.close(this.#fd)
    this.#fd = -1
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

/**
 * Loads BTF and gives its descriptor's owner. Throws `BtfError` with what the kernel objects to, `KernelError` EPERM without
 * CAP_BPF.
 */
export function loadBtf(bytes: Uint8Array): BtfHandle {
  const first = bpf('BTF_LOAD', new Attr(BTF_LOAD, { btf: bytes, btf_size: bytes.length }))
  if (first >= 0) return new BtfHandle(first)
  if (first === -EPERM) throw bpfError('BTF_LOAD', EPERM)
  const buffer = new Uint8Array(LOG_BYTES)
  const again = bpf(
    'BTF_LOAD',
    new Attr(BTF_LOAD, {
      btf: bytes,
      btf_size: bytes.length,
      btf_log_buf: buffer,
      btf_log_size: buffer.length,
      btf_log_level: 1,
    }),
  )
  if (again >= 0) return new BtfHandle(again)
  const end = buffer.indexOf(0)
  const log = new TextDecoder().decode(end < 0 ? buffer : buffer.subarray(0, end))
  const lines = log.split('\n').filter((line) => line.trim() !== '')
  throw new BtfError(`The kernel refused the BTF: ${lines.at(-1) ?? `errno ${-first}`}`, {
    errno: -first,
    log,
    hint: 'The whole log is in the `log` property of the error.',
  })
}

// struct bpf_btf_info: btf (pointer), btf_size, id, and the name.
const BTF_INFO_BYTES = 16

/** The BTF with an id, as the kernel has it: that of a program or map; undefined when it is gone. Needs CAP_SYS_ADMIN. */
export function loadedBtf(id: number): Btf | undefined {
  const fd = bpf('BTF_GET_FD_BY_ID', new Attr(GET_ID, { id }))
  if (fd === -ENOENT) return undefined
  if (fd < 0) throw bpfError('BTF_GET_FD_BY_ID', -fd, { about: `BTF id ${id}` })
  try {
    const ask = (info: Uint8Array): void => {
      bpfChecked('OBJ_GET_INFO_BY_FD', new Attr(INFO, { bpf_fd: fd, info_len: info.length, info }))
    }
    const info = new Uint8Array(BTF_INFO_BYTES)
    const view = new DataView(info.buffer)
    ask(info)
    const bytes = new Uint8Array(view.getUint32(8, true))
    placePointers(info, [0, bytes])
    ask(info)
    return Btf.parse(bytes)
  } finally {
    native.close(fd)
  }
}
