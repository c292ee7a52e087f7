// iperf3 between the ends of labs: its server, and its client's report as JSON.
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import type { EndId, Lab } from '../../src/lab/index.js'
import { until } from './xsk.js'

interface Report {
  end: { sum: { lost_packets: number; packets: number }; sum_sent: { bytes: number } }
}

/** A server at an end, which is gone when the test ends. */
export async function iperfServer(t: TestContext, lab: Lab, end: EndId): Promise<void> {
  const server = lab.spawn(end, 'iperf3', ['-s', '--forceflush'], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => server.kill('SIGKILL'))
  let said = ''
  server.stdout?.setEncoding('utf8').on('data', (text: string) => (said += text))
  await until('iperf3 listens', () => said.includes('listening'))
}

/** A client's run, which must end well. */
export async function iperfClient(lab: Lab, end: EndId, server: string, ...args: string[]): Promise<Report> {
  const { status, stdout, stderr } = await lab.exec(end, 'iperf3', ['-c', server, '--json', ...args])
  assert.equal(status, 0, stdout + stderr)
  return JSON.parse(stdout) as Report
}

/**
 * Asserts that all UDP packets of a run came as far as the server's host. A busy machine's iperf3 may not take them from its
 * socket in time; of those at the end of the run it does not know.
 */
export async function assertArrived({ end: { sum } }: Report, lab: Lab, end: EndId): Promise<void> {
  const { stdout } = await lab.exec(end, 'cat', ['/proc/net/snmp'])
  const [names, values] = [...stdout.matchAll(/^Udp: (.*)$/gm)].map((match) => match[1].split(' '))
  const overflowed = Number(values[names.indexOf('RcvbufErrors')])
  assert.ok(sum.lost_packets <= overflowed, `${sum.lost_packets} lost, ${overflowed} in the socket's buffer`)
}
