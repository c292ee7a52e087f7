// Who sends the most bytes to this interface.
//   node dist/examples/top-talkers.js eth0 10
import { CaptureEngine } from 'node-xdp'
import { formatIp, parseHeaders, Headers } from 'node-xdp/packet'

const [name, seconds = 'until Ctrl-C'] = process.argv.slice(2)
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
console.log(`listening on ${name} in mode ${engine.mode}, ${seconds} s`)
const ended = new Promise((resolve) => engine.once('end', resolve))
const stop = () => void engine.stop()
process.once('SIGINT', stop)
if (Number(seconds) > 0) setTimeout(stop, Number(seconds) * 1000)
await ended

const most = [...talkers].sort(([, a], [, b]) => b - a).slice(0, 10)
for (const [source, bytes] of most) console.log(`${String(bytes).padStart(12)} bytes  ${source}`)
