// The system's ping as a judge that does not take a busy machine for a lost packet.
import assert from 'node:assert/strict'
import type { Lab } from '../../src/lab/index.js'

/** What ping found. */
export interface PingResult {
  sent: number
  received: number
  text: string
}

/** Runs ping at end `b` and gives what it said. */
export async function ping(lab: Lab, args: readonly string[]): Promise<PingResult> {
  const { stdout, stderr } = await lab.exec('b', 'ping', ['-n', '-W', '10', ...args])
  const match = /(\d+) packets transmitted, (\d+) received/.exec(stdout)
  assert.ok(match, stdout + stderr)
  return { sent: Number(match[1]), received: Number(match[2]), text: stdout }
}

/**
 * Pings from end `b`, and finds a reply to every request. ping itself leaves a moment after its last request, two of its
 * longest round trips or one interval (iputils: __schedule_exit), so what it did not wait for is looked up in the kernel's
 * counters. Nobody else may ping from there meanwhile.
 */
export async function assertNoLoss(lab: Lab, args: readonly string[]): Promise<void> {
  let before = await echoReplies(lab)
  let result = await ping(lab, args)
  // The kernel asks three times for a neighbour, once a second. Who is to hand that on may still be starting up.
  for (let tries = 0; /unreachable/i.test(result.text) && tries < 10; tries++) {
    before = await echoReplies(lab)
    result = await ping(lab, args)
  }
  const { sent, received, text } = result
  assert.ok(sent > 0 && received > 0, text)
  assert.doesNotMatch(text, /DUP|wrong|truncated|error/i)
  for (let tries = 0; received < sent && (await echoReplies(lab)) - before < sent; tries++) {
    assert.ok(tries < 1000, text)
  }
}

/** ICMP and ICMPv6 echo replies that the kernel at end `b` has received. */
async function echoReplies(lab: Lab): Promise<number> {
  const { stdout } = await lab.exec('b', 'cat', ['/proc/net/snmp', '/proc/net/snmp6'])
  const [names, values] = [...stdout.matchAll(/^Icmp: (.*)$/gm)].map((match) => match[1].split(' '))
  const six = /^Icmp6InEchoReplies\s+(\d+)$/m.exec(stdout)?.[1] ?? 0
  return Number(values[names.indexOf('InEchoReps')]) + Number(six)
}
