// Who sends the most bytes to this interface.
//   node dist/examples/top-talkers.js eth0 10
import { CaptureEngine } from 'node-xdp'
import { formatIp, parseHeaders, Headers } from 'node-xdp/packet'

const [name, seconds] = process.argv.slice(2)
await using engine = await CaptureEngine.open({ interface: name, filter: 'ip or ip6', snapLength: 96 })
const talkers = new Map<string, number>()
const headers = new Headers()

engine.start({
  packet({ bytes, offset, length, wireLength }) {
    const { ipVersion, l3Offset } = parseHeaders(bytes, offset, length, headers)
    if (l3Offset < 0) return
    const at = l3Offset + (ipVersion === 4 ? 12 : 8)
    const source = formatIp(bytes.subarray(at, at + (ipVersion === 4 ? 4 : 16)))
    talkers.set(source, (talkers.get(source) ?? 0) + wireLength)
  },
})
const isTimed = Number(seconds) > 0
console.log(`listening on ${name} in mode ${engine.mode}, ${isTimed ? `${seconds} s` : 'until Ctrl-C'}`)
await new Promise((resolve) => {
  process.once('SIGINT', resolve)
  engine.once('end', resolve)
  if (isTimed) setTimeout(resolve, Number(seconds) * 1000).unref()
})
// It may have ended by itself: an interface can go away.
if (engine.state === 'running') await engine.stop()

const most = [...talkers].sort(([, a], [, b]) => b - a).slice(0, 10)
for (const [source, bytes] of most) console.log(`${String(bytes).padStart(12)} bytes  ${source}`)
