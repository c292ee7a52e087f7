// xdp status against what ip and bpftool say of the same programs.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { enableRunStatistics } from '../../src/bpf/index.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { XDP, burst, run, startXdp, xdp, xdpJson, xdpOk } from './xdp.js'

interface Attachment {
  interface: string
  ifindex: number
  namespace: string | null
  mode: string
  id: number
  name: string | null
  tag: string | null
  attachedBy: string
  linkId: number | null
  heldBy: { pid: number; command: string }[]
  loadedAt: string | null
  loadedBy: number | null
  maps: { id: number; name: string; type: string }[]
  runs: { count: number; nanoseconds: number } | null
}

const UNPRIVILEGED = ['setpriv', '--bounding-set=-all', '--inh-caps=-all']

async function json<T>(...command: string[]): Promise<T> {
  const { status, stdout, stderr } = await run(command)
  assert.equal(status, 0, stderr)
  return JSON.parse(stdout) as T
}

describe('xdp status', { skip: needsRoot }, () => {
  it('says that nothing is attached, which is no failure', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    assert.equal(await xdpOk('status', lab.name), `no XDP program attached to ${lab.name}\n`)
    assert.deepEqual(await xdpJson('status', lab.name), [])
    assert.equal(await xdpOk('status', '-n', `xdp-${lab.name}-b`), 'no XDP program attached\n')
    assert.deepEqual(await xdpJson('status', '-n', `xdp-${lab.name}-b`), [])
  })

  it('agrees with ip and bpftool on a program attached by netlink', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    await xdpOk('lab', 'load', lab.name, 'redirect', '--mode', 'native')
    const [attachment, ...others] = await xdpJson<Attachment[]>('status', lab.name)
    assert.deepEqual(others, [])
    type Ip = { ifindex: number; xdp: { mode: number; prog: { id: number; tag: string } } }
    const [link] = await json<Ip[]>('ip', '-j', '-d', 'link', 'show', lab.name)
    assert.equal(link.xdp.mode, 1) // XDP_ATTACHED_DRV
    assert.equal(attachment.mode, 'native')
    assert.equal(attachment.ifindex, link.ifindex)
    assert.equal(attachment.id, link.xdp.prog.id)
    type Net = { xdp: { devname: string; id: number }[] }
    const [{ xdp: attached }] = await json<Net[]>('bpftool', '-j', 'net')
    assert.equal(attached.find(({ devname }) => devname === lab.name)?.id, attachment.id)
    type Program = { name: string; tag: string; uid: number; loaded_at: number; map_ids: number[] }
    const program = await json<Program>('bpftool', '-j', 'prog', 'show', 'id', String(attachment.id))
    assert.equal(attachment.name, program.name)
    assert.equal(attachment.tag, program.tag)
    assert.equal(attachment.loadedBy, program.uid)
    // Two programs that take the same two readings of the clock one after the other.
    assert.ok(Math.abs(Date.parse(attachment.loadedAt!) / 1000 - program.loaded_at) <= 2)
    assert.deepEqual(
      attachment.maps.map(({ id }) => id),
      program.map_ids,
    )
    assert.deepEqual(
      attachment.maps.map(({ name, type }) => [name, type]),
      [['xsks_map', 'xskmap']],
    )
    assert.deepEqual(
      [attachment.attachedBy, attachment.linkId, attachment.namespace],
      ['netlink', null, null],
    )

    const table = await xdpOk('status', lab.name)
    const [headings, row] = table.trimEnd().split('\n')
    assert.match(headings, /^INTERFACE +MODE +PROGRAM +NAME +TAG +ATTACHED BY +LOADED +MAPS/)
    const cells = [lab.name, 'native', program.name, program.tag, 'netlink', 'xsks_map']
    for (const cell of cells) assert.ok(row.includes(cell), table)
    const all = await xdpJson<Attachment[]>('status')
    assert.deepEqual(
      all.filter(({ ifindex }) => ifindex === link.ifindex).map(({ id, tag }) => ({ id, tag })),
      [{ id: attachment.id, tag: attachment.tag }],
    )
  })

  it('agrees with ip and bpftool on a program attached by link, in another namespace', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const namespace = `xdp-${lab.name}-b`
    const inside = ['lab', 'exec', lab.name, '--', ...XDP]
    await startXdp(t, [...inside, 'drop', 'veth-b', '--mode', 'generic'], /^xdp: dropping everything .*\n/)
    const [attachment] = await xdpJson<Attachment[]>('status', 'veth-b', '--namespace', namespace)
    type Ip = { xdp: { mode: number; prog: { id: number } } }
    const [link] = await json<Ip[]>('ip', '-n', namespace, '-j', '-d', 'link', 'show', 'veth-b')
    assert.equal(link.xdp.mode, 2) // XDP_ATTACHED_SKB
    assert.equal(attachment.mode, 'generic')
    assert.equal(attachment.id, link.xdp.prog.id)
    assert.equal(attachment.namespace, namespace)
    assert.equal(attachment.attachedBy, 'link')
    assert.ok(
      attachment.heldBy.length === 1 && attachment.heldBy[0].pid > 1,
      JSON.stringify(attachment.heldBy),
    )
    type Link = { type: string; prog_id: number }
    const bpfLink = await json<Link>('bpftool', '-j', 'link', 'show', 'id', String(attachment.linkId))
    assert.equal(bpfLink.type, 'xdp')
    assert.equal(bpfLink.prog_id, attachment.id)
    assert.deepEqual(await xdpJson('status', lab.name), [])
  })

  it('shows runs once they are counted', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    await xdpOk('lab', 'load', lab.name, 'pass')
    const statistics = enableRunStatistics()
    t.after(() => statistics.close())
    await xdpOk('lab', 'ping', lab.name, '--', ...burst(5))
    const [{ runs }] = await xdpJson<Attachment[]>('status', lab.name)
    assert.ok(runs !== null && runs.count >= 5 && runs.nanoseconds > 0, JSON.stringify(runs))
    assert.match(await xdpOk('status', lab.name), /RUNS\n.* \d+, \d+ ns each\n$/)
  })

  it('counts runs for as long as it is told to', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    await xdpOk('lab', 'load', lab.name, 'pass')
    const counting = xdpJson<Attachment[]>('status', lab.name, '--count', '3')
    // Pings until it is done: when exactly it counts, only it knows.
    let isDone = false
    void counting.finally(() => (isDone = true))
    while (!isDone) await xdpOk('lab', 'ping', lab.name, '--', ...burst(5))
    const [{ runs }] = await counting
    assert.ok(runs !== null && runs.count > 0 && runs.nanoseconds > 0, JSON.stringify(runs))
    assert.match((await xdp(['status', '--count', '0'])).stderr, /number of seconds above 0/)
  })

  it('tells the unprivileged mode and id, and what it takes to see more', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    await xdpOk('lab', 'load', lab.name, 'pass')
    const [{ id }] = await xdpJson<Attachment[]>('status', lab.name)
    const result = await xdp(['status', lab.name, '--json'], { prefix: UNPRIVILEGED })
    assert.equal(result.status, 0)
    const [attachment] = JSON.parse(result.stdout) as Attachment[]
    assert.deepEqual(
      [attachment.id, attachment.mode, attachment.attachedBy, attachment.name, attachment.maps],
      [id, 'native', 'unknown', null, []],
    )
    assert.match(result.stderr, /^xdp: .*CAP_SYS_ADMIN.*\n$/)
  })
})
