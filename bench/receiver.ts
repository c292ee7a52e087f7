// The benchmark's three jobs over XdpSocket: the same command line, work and output as reference/xsk_reference.c.
import { writeSync } from 'node:fs'
import { setImmediate as turn } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { swapMacs } from '../src/packet/index.js'
import { XdpSocket, type PacketHandler } from '../src/xsk/index.js'

/** What a receiver prints at its end, about the time since the last mark. Times in seconds, sizes in bytes. */
export interface ReceiverResult {
  packets: number
  bytes: number
  batches: number
  wakeups: number
  txDropped: number
  wall: number
  user: number
  system: number
  rxDropped: number
  rxRingFull: number
  fillRingEmpty: number
  maxRss: number
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    interface: { type: 'string', short: 'i' },
    queue: { type: 'string', short: 'q', default: '0' },
    mode: { type: 'string', short: 'm', default: 'native' },
    frames: { type: 'string', short: 'f', default: '4096' },
    ring: { type: 'string', short: 'r', default: '2048' },
    batch: { type: 'string', short: 'b', default: '64' },
    size: { type: 'string', short: 's', default: '60' },
    count: { type: 'string', short: 'n', default: '0' },
    busy: { type: 'boolean', short: 'B', default: false },
    noWakeup: { type: 'boolean', short: 'W', default: false },
    wait: { type: 'string', default: 'poll' },
  },
})
const job = positionals[0] as 'rxdrop' | 'txpush' | 'l2fwd'
const ring = Number(values.ring)
const batch = Number(values.batch)
const size = Number(values.size)
const count = Number(values.count) || Infinity

const socket = await XdpSocket.open({
  interface: values.interface ?? '',
  queue: Number(values.queue),
  mode: values.mode === 'skb' ? 'generic' : 'native',
  copy: 'copy',
  attach: job === 'txpush' ? 'none' : 'auto',
  umem: { frames: Number(values.frames) },
  rings: { rx: ring, tx: ring, fill: ring, completion: ring },
  batch,
  needWakeup: !values.noWakeup,
  busyPoll: values.busy,
})

function look() {
  const { userCPUTime, systemCPUTime } = process.resourceUsage()
  return {
    wall: performance.now() / 1e3,
    user: userCPUTime / 1e6,
    system: systemCPUTime / 1e6,
    ...socket.statistics(),
  }
}

let from = look()
const control = new AbortController()
process.on('SIGUSR2', () => (from = look()))
process.once('SIGTERM', () => control.abort())
process.once('SIGINT', () => control.abort())

/** Sends until told to stop. Between batches the event loop gets a turn now and then, for the signals. */
async function push(): Promise<void> {
  const { bytes, umem } = socket
  // A packet of zeros to nobody, of local experimental type 1, in every frame.
  const packet = Buffer.from('02000000000102000000000288b5', 'hex')
  for (let frame = 0; frame < bytes.length; frame += umem.frameSize) bytes.set(packet, frame)
  for (let sent = 0; !control.signal.aborted && sent < count;) {
    for (let i = 0; i < 64 && sent < count; i++) {
      const frames = socket.reserve(batch)
      for (let k = 0; k < frames.length; k++) frames.setLength(k, size)
      sent += frames.commit()
    }
    await turn()
  }
}

let received = 0
const counted =
  (verdict: 'transmit' | undefined): PacketHandler =>
  (packet) => {
    if (verdict === 'transmit') swapMacs(packet.bytes, packet.offset)
    if (++received >= count) control.abort()
    return verdict
  }
const drop: PacketHandler = () => undefined
const reflect: PacketHandler = (packet) => {
  swapMacs(packet.bytes, packet.offset)
  return 'transmit'
}

writeSync(1, 'ready\n')
if (job === 'txpush') await push()
else {
  const verdict = job === 'l2fwd' ? 'transmit' : undefined
  const plain = job === 'l2fwd' ? reflect : drop
  await socket.run(count === Infinity ? plain : counted(verdict), {
    signal: control.signal,
    wait: values.wait as 'poll' | 'event-loop',
  })
}
const to = look()
const result: ReceiverResult = {
  packets: job === 'txpush' ? to.tx.packets - from.tx.packets : to.rx.packets - from.rx.packets,
  bytes: job === 'txpush' ? to.tx.bytes - from.tx.bytes : to.rx.bytes - from.rx.bytes,
  batches: to.batches - from.batches,
  wakeups: to.wakeups.rx + to.wakeups.tx - from.wakeups.rx - from.wakeups.tx,
  txDropped: to.txDropped - from.txDropped,
  wall: to.wall - from.wall,
  user: to.user - from.user,
  system: to.system - from.system,
  rxDropped: to.kernel.rxDropped - from.kernel.rxDropped,
  rxRingFull: to.kernel.rxRingFull - from.kernel.rxRingFull,
  fillRingEmpty: to.kernel.fillRingEmpty - from.kernel.fillRingEmpty,
  maxRss: process.resourceUsage().maxRSS * 1024,
}
writeSync(1, JSON.stringify(result) + '\n')
await socket.close()
