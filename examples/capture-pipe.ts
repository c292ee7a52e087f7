// Writes what an interface receives to standard output as pcapng.
//   node dist/examples/capture-pipe.js eth0 | wireshark -k -i -
import { CaptureEngine, CaptureWriter } from 'node-xdp'

const [name, filter] = process.argv.slice(2)
await using engine = await CaptureEngine.open({ interface: name, filter })
const stop = () => void (engine.state === 'running' && engine.stop())
const writer = await CaptureWriter.open({
  path: '-',
  interfaces: [{ name, ...(filter !== undefined && { filter }) }],
  // Whoever read it is gone, be it that Ctrl-C ended both.
  onError: stop,
})
process.once('SIGINT', stop)
console.error(`capturing on ${name} in mode ${engine.mode}`)

const ended = new Promise((resolve) => engine.once('end', resolve))
engine.start({
  packet(packet) {
    writer.write(packet)
    // What comes meanwhile waits in the kernel, and is counted there when it finds no room.
    if (writer.hasRoom) return
    engine.pause()
    void writer.ready().then(() => engine.resume())
  },
})
await ended
await writer.close().catch(() => undefined)
const { dropped } = engine.stats()
console.error(
  `${writer.stats.written} packets written, ${dropped.ring + dropped.kernel + writer.stats.lost} lost`,
)
