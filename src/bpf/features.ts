// What this kernel's BPF can do, found out by trying: each probe runs once and its answer is kept.
import { XdpError } from '../kernel/errors.js'
import { PAGE_SIZE } from '../kernel/memory.js'
import { native } from '../kernel/native.js'
import { kernelAtLeast } from '../kernel/version.js'
import { call, exit, mov, r0, r1, r2, r3, r4, r5 } from './asm.js'
import { Attr, LINK_CREATE } from './attr.js'
import { ATTACH_TYPES, type MapType, type ProgramType } from './constants.js'
import { BPF_FUNC, type HelperName } from './helpers.js'
import { BpfMap } from './map.js'
import type { LoadOptions } from './load.js'
import { BpfProgram } from './program.js'
import { EINVAL, EPERM } from '../kernel/errno.js'
import { bpf, bpfError } from './syscall.js'
import { VerifierError } from './verifier.js'

const XDP_FLAGS_DRV_MODE = 1 << 2 // include/uapi/linux/if_link.h

/** Whether something is there, and the kernel's reason in words. */
export interface Feature {
  available: boolean
  why: string
}

const known = new Map<string, Feature>()

function once(key: string, probe: () => Feature): Feature {
  let feature = known.get(key)
  if (!feature) {
    feature = probe()
    known.set(key, feature)
  }
  return feature
}

const yes = (why: string): Feature => ({ available: true, why })
const no = (why: string): Feature => ({ available: false, why })

const passing = [mov(r0, 2), exit()]

function loads(what: string, options: Omit<LoadOptions, 'code'>): Feature {
  try {
    BpfProgram.load({ code: passing, ...options }).close()
    return yes(`${what} load`)
  } catch (error) {
    if (error instanceof XdpError) return no(error.message)
    throw error
  }
}

/** Whether programs of a type load. */
export function probeProgramType(type: ProgramType): Feature {
  return once(`program ${type}`, () => loads(`${type} programs`, { type }))
}

/** Whether maps of a type can be made. */
export function probeMapType(type: MapType): Feature {
  return once(`map ${type}`, () => {
    try {
      makeSample(type).close()
      return yes(`${type} maps can be made`)
    } catch (error) {
      if (error instanceof XdpError) return no(error.message)
      throw error
    }
  })
}

function makeSample(type: MapType): BpfMap {
  switch (type) {
    case 'lpm_trie':
      return BpfMap.create({ type, key: 8, value: 4, maxEntries: 1 })
    case 'ringbuf':
    case 'user_ringbuf':
      return BpfMap.create({ type, maxEntries: PAGE_SIZE })
    case 'queue':
    case 'stack':
    case 'bloom_filter':
      return BpfMap.create({ type, value: 4, maxEntries: 1 })
    case 'stack_trace':
      return BpfMap.create({ type, key: 4, value: 8, maxEntries: 1 })
    case 'array_of_maps':
    case 'hash_of_maps': {
      const innerMap = BpfMap.create({ type: 'array', value: 4, maxEntries: 1 })
      try {
        return BpfMap.create({ type, key: 4, innerMap, maxEntries: 1 })
      } finally {
        innerMap.close()
      }
    }
    default:
      return BpfMap.create({ type, key: 4, value: 4, maxEntries: 1 })
  }
}

/**
 * Whether programs of a type may call a helper. Asked by loading a program that calls it with arguments that cannot be right:
 * the verifier says either that it does not know the helper, or what is wrong with the arguments.
 */
export function probeHelper(helper: HelperName, type: ProgramType = 'xdp'): Feature {
  return once(`helper ${helper} ${type}`, () => {
    const wrong = [r1, r2, r3, r4, r5].map((register) => mov(register, 0))
    try {
      BpfProgram.load({ type, code: [wrong, call(helper), mov(r0, 0), exit()] }).close()
    } catch (error) {
      if (error instanceof VerifierError) {
        const isUnknown = /unknown func|invalid func|cannot use helper/.test(error.line)
        return isUnknown
          ? no(error.line)
          : yes(`bpf_${helper} is helper ${BPF_FUNC[helper]} of ${type} programs`)
      }
      if (error instanceof XdpError) return no(error.message)
      throw error
    }
    return yes(`bpf_${helper} is helper ${BPF_FUNC[helper]} of ${type} programs`)
  })
}

/** Whether XDP programs can be attached by link (5.9). */
export function probeXdpLink(): Feature {
  return once('xdp link', () => {
    const xdp = probeProgramType('xdp')
    if (!xdp.available) return xdp
    const program = BpfProgram.load({ type: 'xdp', code: passing })
    try {
      // The loopback device (always index 1) has no native XDP: a kernel with links finds that out (EOPNOTSUPP, or
      // EBUSY when a program is there), an older one does not get so far (EINVAL).
      const result = bpf(
        'LINK_CREATE',
        new Attr(LINK_CREATE, {
          prog_fd: program.fd,
          target_ifindex: 1,
          attach_type: ATTACH_TYPES.xdp,
          flags: XDP_FLAGS_DRV_MODE,
        }),
      )
      if (result >= 0) native.close(result)
      return result === -EINVAL || result === -EPERM
        ? no(bpfError('LINK_CREATE', -result).message)
        : yes('XDP programs can be attached by link')
    } finally {
      program.close()
    }
  })
}

/** Whether XDP programs may handle packets in several buffers (5.18). */
export function probeFrags(): Feature {
  return once('frags', () => loads('XDP programs for fragmented packets', { type: 'xdp', frags: true }))
}

/** The same, without the probe where the kernel's version says enough: that costs as much as loading a small program. */
export function takesFrags(): boolean {
  // The probe is for older kernels with newer features.
  return kernelAtLeast(5, 18) || probeFrags().available
}

/** Whether test runs can send frames for real (5.18). */
export function probeLiveFrames(): Feature {
  return once('live frames', () => {
    const xdp = probeProgramType('xdp')
    if (!xdp.available) return xdp
    const program = BpfProgram.load({ type: 'xdp', code: [mov(r0, 1), exit()] })
    try {
      program.runLive({ packet: new Uint8Array(64), repeat: 1 })
      return yes('Test runs can send live frames')
    } catch (error) {
      if (error instanceof XdpError) return no(error.message)
      throw error
    } finally {
      program.close()
    }
  })
}
