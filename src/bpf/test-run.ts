// Running a program in the kernel on packets of ours (BPF_PROG_TEST_RUN; net/bpf/test_run.c).
import { OptionError } from '../kernel/errors.js'
import { type Namespace, inNamespace } from '../kernel/namespace.js'
import { requireKernel } from '../kernel/version.js'
import { Attr, TEST_RUN } from './attr.js'
import { type ProgramType, type Verdict, verdictNames } from './constants.js'
import { EINTR, EINVAL, ENODEV, ENOSPC } from '../kernel/errno.js'
import { bpf, bpfError } from './syscall.js'

const BPF_F_TEST_XDP_LIVE_FRAMES = 1 << 1
/** struct xdp_md */
const CONTEXT_BYTES = 24
/** TEST_XDP_MAX_BATCH of net/bpf/test_run.c. */
const MAX_BATCH = 256
/** ETH_HLEN: the kernel runs on nothing shorter. */
const MIN_PACKET = 14
/** XDP_PACKET_HEADROOM: how far a program can grow a packet at the front, and about as much at the end. */
const GROWTH = 512
const MAX_U32 = 0xffffffff

/** What a run needs of a program. */
interface Runnable {
  readonly fd: number
  readonly type: ProgramType | 'unknown'
  readonly name: string
}

/** What an XDP program sees beside the packet. */
export interface TestContext {
  /** Bytes before the packet, at data_meta: a multiple of 4, at most 252 (before 6.5: 32). */
  metadata?: Uint8Array
  /** The device the packet seems to come from; default the loopback device. */
  ingressIfindex?: number
  /** Its queue. Only with `ingressIfindex`, and a queue the device has. */
  queue?: number
}

/** One run on one packet. */
export interface TestRunOptions extends TestContext {
  /** The packet, at least 14 bytes. Above about 3520 bytes it arrives in fragments (5.18). */
  packet: Uint8Array
  /** Room for the packet as the program leaves it. Default: `packet` and 512 bytes. */
  outputSize?: number
  /** How often to run, always on the same packet; what the program changes in it stays. Default 1. */
  repeat?: number
  /** Where `ingressIfindex` counts. */
  namespace?: Namespace
}

/** What came of it. */
export interface TestRunResult {
  /** r0 at exit. */
  returnValue: number
  /** Its name for an XDP program; undefined for other programs, and for a number that is no verdict. */
  verdict: Verdict | undefined
  /** The packet as the program left it. */
  packet: Uint8Array
  /** The metadata it left before the packet. Empty on kernels before 5.15. */
  metadata: Uint8Array
  /** Nanoseconds a run, the mean over `repeat`. */
  durationNs: number
}

/** Frames sent for real. */
export interface LiveRunOptions extends TestContext {
  /** The packet, 14 to about 3300 bytes. */
  packet: Uint8Array
  /** How many frames. */
  repeat: number
  /** Frames a round, 1 to 256. Default 64. */
  batchSize?: number
  /** Where `ingressIfindex` counts. */
  namespace?: Namespace
}

export interface LiveRunResult {
  /** Nanoseconds a frame, the mean over `repeat`. */
  durationNs: number
}

/**
 * Runs a program on a packet and gives back what it returned and what became of the packet. Nothing is sent anywhere.
 * Kernel 4.12; metadata, device and queue 5.15. The program may be of any type that the kernel can test on packets.
 */
export function testRun(program: Runnable, options: TestRunOptions): TestRunResult {
  checkPacket(options.packet)
  const isXdp = program.type === 'xdp'
  const input = withMetadata(options)
  const output = new Uint8Array(options.outputSize ?? input.length + GROWTH)
  const wantsContext =
    options.metadata !== undefined || options.ingressIfindex !== undefined || options.queue !== undefined
  if (wantsContext && !isXdp) throw new OptionError('metadata', 'Only XDP programs are run in a context')
  let context = isXdp ? xdpContext(options, input.length) : undefined
  const run = (): { attr: Attr<typeof TEST_RUN.fields>; result: number } => {
    const attr = new Attr(
      TEST_RUN,
      {
        prog_fd: program.fd,
        data_size_in: input.length,
        data_size_out: output.length,
        data_in: input,
        data_out: output,
        repeat: checkCount('repeat', options.repeat ?? 1, MAX_U32),
        ctx_size_in: context?.length,
        ctx_size_out: context?.length,
        ctx_in: context,
        ctx_out: context,
      },
      'duration',
    )
    return { attr, result: inNamespace(options.namespace, () => bpf('PROG_TEST_RUN', attr)) }
  }
  let { attr, result } = run()
  if (result === -EINVAL && context && !wantsContext) {
    // Before 5.15 XDP runs know no context.
    context = undefined
    ;({ attr, result } = run())
  }
  if (result < 0) throw runError(program, -result, options, attr.get('data_size_out'))
  const total = attr.get('data_size_out')
  const data = context ? new DataView(context.buffer).getUint32(0, true) : 0
  const returnValue = attr.get('retval')
  return {
    returnValue,
    verdict: isXdp ? verdictNames.get(returnValue) : undefined,
    packet: output.subarray(data, total),
    metadata: output.subarray(0, data),
    durationNs: attr.get('duration'),
  }
}

/**
 * Sends `repeat` copies of a packet through an XDP program as if they had arrived on a device, and obeys its verdicts: `pass`
 * hands them to the kernel's stack, `tx` sends them out of the device, `redirect` to wherever the program said. Kernel 5.18.
 *
 * Blocks until all are through: about 100 ns a frame and more. Frames are recycled, so what the program writes into one is
 * there when the frame comes round again. Redirecting into a veth needs an XDP program or GRO on its peer. Throws
 * `KernelError`, EINTR when a signal came in the middle.
 */
export function runLive(program: Runnable, options: LiveRunOptions): LiveRunResult {
  requireKernel('Live-frame test runs', 5, 18)
  checkPacket(options.packet)
  if (program.type !== 'xdp') throw new OptionError('program', 'Only XDP programs run on live frames')
  const input = withMetadata(options)
  const context = xdpContext(options, input.length)
  const attr = new Attr(
    TEST_RUN,
    {
      prog_fd: program.fd,
      data_size_in: input.length,
      data_in: input,
      repeat: checkCount('repeat', options.repeat, MAX_U32),
      ctx_size_in: context.length,
      ctx_in: context,
      flags: BPF_F_TEST_XDP_LIVE_FRAMES,
      batch_size: checkCount('batchSize', options.batchSize ?? 64, MAX_BATCH),
    },
    'duration',
  )
  const result = inNamespace(options.namespace, () => bpf('PROG_TEST_RUN', attr))
  if (result < 0) throw runError(program, -result, options)
  return { durationNs: attr.get('duration') }
}

function checkPacket(packet: Uint8Array): void {
  if (packet.length < MIN_PACKET) {
    throw new OptionError(
      'packet',
      `A packet of ${packet.length} bytes is too short; ${MIN_PACKET} are an Ethernet header`,
    )
  }
}

function checkCount(option: string, value: number, most: number): number {
  if (Number.isInteger(value) && value >= 1 && value <= most) return value
  throw new OptionError(option, `${option} must be 1 to ${most}, not ${value}`)
}

function withMetadata({ packet, metadata }: { packet: Uint8Array; metadata?: Uint8Array }): Uint8Array {
  if (metadata === undefined) return packet
  if (metadata.length % 4 !== 0 || metadata.length > 252) {
    throw new OptionError(
      'metadata',
      `Metadata of ${metadata.length} bytes; it must be a multiple of 4, at most 252`,
    )
  }
  const input = new Uint8Array(metadata.length + packet.length)
  input.set(metadata)
  input.set(packet, metadata.length)
  return input
}

/** `struct xdp_md`, offsets counted from the start of the input: data_meta 0, data behind the metadata, data_end its end. */
function xdpContext(options: TestContext, inputLength: number): Uint8Array {
  if (options.queue !== undefined && options.ingressIfindex === undefined) {
    throw new OptionError('queue', 'A queue needs the device it belongs to: ingressIfindex')
  }
  const bytes = new Uint8Array(CONTEXT_BYTES)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, options.metadata?.length ?? 0, true)
  view.setUint32(4, inputLength, true)
  view.setUint32(12, options.ingressIfindex ?? 0, true)
  view.setUint32(16, options.queue ?? 0, true)
  return bytes
}

function runError(
  program: Runnable,
  errno: number,
  { packet, ingressIfindex, queue }: TestRunOptions | LiveRunOptions,
  needed?: number,
): Error {
  const device = ingressIfindex === undefined ? '' : `, from interface ${ingressIfindex} queue ${queue ?? 0}`
  const about = `program "${program.name}" on ${packet.length} bytes${device}`
  const hints: Record<number, string> = {
    [ENOSPC]: `The program left ${needed} bytes: pass a larger outputSize.`,
    [ENODEV]: 'No such interface in this network namespace: pass the namespace it is in.',
    [EINTR]: 'A signal came while frames were sent: some are out, some are not.',
    [EINVAL]:
      'The packet may be too long, the device not up or without that queue, or the program not of a kind that can be run so.',
  }
  return bpfError('PROG_TEST_RUN', errno, { about, hint: hints[errno] })
}
