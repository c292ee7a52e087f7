// What the kernel says of programs, maps and links, against bpftool; pins; statistics; probes.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { describe, test, type TestContext } from 'node:test'
import { exit, loadMap, mov, r0, r1 } from '../../src/bpf/asm.js'
import {
  BPF_FILE_SYSTEM,
  BpfMap,
  BpfProgram,
  attachXdp,
  enableRunStatistics,
  ensureBpfFileSystem,
  linkInfoById,
  mapInfoById,
  objectIds,
  probeFrags,
  probeHelper,
  probeLiveFrames,
  probeMapType,
  probeProgramType,
  probeXdpLink,
  programInfo,
  programInfoById,
  u32,
  u64,
  unpin,
} from '../../src/bpf/index.js'
import { kernelAtLeast } from '../../src/kernel/version.js'
import { createTestLab, needsRoot, openDescriptors, uniqueName } from '../support/lab.js'

const hasBpftool = spawnSync('bpftool', ['version']).status === 0
const needsBpftool = !hasBpftool && 'bpftool is not installed'

const bpftool = <T>(...args: string[]): T =>
  JSON.parse(execFileSync('bpftool', ['-j', ...args], { encoding: 'utf8' })) as T

function make(t: TestContext) {
  const map = BpfMap.create({ type: 'lru_hash', name: 'flows', key: u32, value: u64, maxEntries: 100 })
  const other = BpfMap.create({ type: 'array', name: 'config', value: u32, maxEntries: 1 })
  const code = [loadMap(r1, map), loadMap(r1, other), mov(r0, 2), exit()]
  const program = BpfProgram.load({ type: 'xdp', name: 'informed', code })
  t.after(() => [map, other, program].forEach((one) => one.close()))
  return { map, other, program }
}

describe('info', { skip: needsRoot }, () => {
  test('of a program is what bpftool shows', { skip: needsBpftool }, (t) => {
    const { program, map, other } = make(t)
    const info = program.info()
    const shown = bpftool<Record<string, unknown>>('prog', 'show', 'id', String(program.id))
    assert.deepEqual(
      {
        id: info.id,
        type: info.type,
        name: info.name,
        tag: info.tag,
        gpl_compatible: info.gplCompatible,
        uid: info.createdByUid,
        bytes_xlated: info.translatedBytes,
        bytes_jited: info.compiledBytes || undefined,
        map_ids: info.mapIds,
      },
      {
        id: shown['id'],
        type: shown['type'],
        name: shown['name'],
        tag: shown['tag'],
        gpl_compatible: shown['gpl_compatible'],
        uid: shown['uid'],
        bytes_xlated: shown['bytes_xlated'],
        bytes_jited: shown['bytes_jited'],
        map_ids: shown['map_ids'],
      },
    )
    assert.deepEqual(info.mapIds, [map.id, other.id])
    assert.equal(program.translated().length, info.translatedBytes)
    assert.equal(info.verifiedInstructions, 4)
    assert.deepEqual(programInfoById(program.id), info)
    assert.equal(programInfoById(0x7ffffff0), undefined)
  })

  test('of a program that is proprietary', (t) => {
    const program = BpfProgram.load({ type: 'xdp', license: 'Proprietary', code: [mov(r0, 2), exit()] })
    t.after(() => program.close())
    assert.equal(program.info().gplCompatible, false)
    assert.equal(programInfo(program.fd).name, '')
  })

  test('of a map is what bpftool shows', { skip: needsBpftool }, (t) => {
    const { map } = make(t)
    const info = map.info()
    const shown = bpftool<Record<string, unknown>>('map', 'show', 'id', String(map.id))
    assert.deepEqual(
      {
        id: info.id,
        type: info.type,
        name: info.name,
        flags: info.flags,
        bytes_key: info.keySize,
        bytes_value: info.valueSize,
        max_entries: info.maxEntries,
      },
      Object.fromEntries(
        ['id', 'type', 'name', 'flags', 'bytes_key', 'bytes_value', 'max_entries'].map((key) => [
          key,
          shown[key],
        ]),
      ),
    )
    assert.deepEqual(mapInfoById(map.id), info)
    assert.equal(mapInfoById(0x7ffffff0), undefined)
  })

  test('of a link is what bpftool shows', { skip: needsBpftool }, async (t) => {
    const { program } = make(t)
    const lab = createTestLab(t)
    const { ifindex, namespace } = lab.a
    const attachment = attachXdp(program, { interface: ifindex, namespace })
    t.after(() => attachment.close())
    const info = linkInfoById(attachment.linkId!)
    assert.deepEqual(info, { id: attachment.linkId, type: 'xdp', programId: program.id, ifindex })
    const shown = await lab.exec('a', 'bpftool', ['-j', 'link', 'show', 'id', String(attachment.linkId)])
    const { id, type, prog_id } = JSON.parse(shown.stdout) as Record<string, unknown>
    assert.deepEqual([id, type, prog_id], [info?.id, 'xdp', info?.programId])
    attachment.detach()
    assert.equal(linkInfoById(attachment.linkId!), undefined)
  })

  test('all objects are listed, in rising order', (t) => {
    const { program, map, other } = make(t)
    const programs = [...objectIds('program')]
    const maps = [...objectIds('map')]
    assert.ok(programs.includes(program.id))
    assert.ok(maps.includes(map.id) && maps.includes(other.id))
    for (const ids of [programs, maps]) {
      assert.deepEqual(
        ids,
        [...ids].sort((a, b) => a - b),
      )
    }
    for (const id of objectIds('link')) assert.ok(id > 0)
  })

  test('looking at objects leaves no descriptor open', (t) => {
    const { program, map } = make(t)
    const before = openDescriptors()
    programInfoById(program.id)
    mapInfoById(map.id)
    for (const id of objectIds('program')) programInfoById(id)
    assert.deepEqual(openDescriptors(), before)
  })

  test('run statistics count while they are on', (t) => {
    const { program } = make(t)
    const statistics = enableRunStatistics()
    t.after(() => statistics.close())
    const before = program.info().runCount
    program.testRun({ packet: new Uint8Array(64), repeat: 100 })
    const info = program.info()
    assert.equal(info.runCount - before, 100n)
    assert.ok(info.runTimeNs > 0n)
    statistics.close()
    statistics.close()
  })
})

describe('pinning', { skip: needsRoot }, () => {
  function makeDirectory(t: TestContext): string {
    ensureBpfFileSystem()
    const directory = `${BPF_FILE_SYSTEM}/${uniqueName('pin')}`
    mkdirSync(directory)
    t.after(() => rmSync(directory, { recursive: true, force: true }))
    return directory
  }

  test('maps and programs outlive their descriptors under a path', (t) => {
    const directory = makeDirectory(t)
    const { map, program } = make(t)
    const paths = [`${directory}/map`, `${directory}/program`]
    map.update(7, 8n)
    map.pin(paths[0])
    program.pin(paths[1])
    const { id } = map
    map.close()
    program.close()
    const same = BpfMap.openPinned(paths[0], { key: u32, value: u64 })
    t.after(() => same.close())
    assert.equal(same.id, id)
    assert.equal(same.lookup(7), 8n)
    const again = BpfProgram.openPinned(paths[1])
    t.after(() => again.close())
    assert.equal(again.id, program.id)
    assert.equal(again.testRun({ packet: new Uint8Array(64) }).verdict, 'pass')
    again.close()
    assert.equal(unpin(paths[1]), true)
    assert.equal(unpin(paths[1]), false)
    assert.equal(existsSync(paths[1]), false)
    assert.equal(programInfoById(program.id), undefined)
  })

  test('what is wrong with a path is said', (t) => {
    const directory = makeDirectory(t)
    const { map } = make(t)
    map.pin(`${directory}/taken`)
    assert.throws(() => map.pin(`${directory}/taken`), { code: 'XDP_EXISTS' })
    assert.throws(() => map.pin(`${directory}/no/such/place`), { code: 'ENOENT', hint: /mkdir/ })
    assert.throws(() => map.pin(`/tmp/${uniqueName()}`), { code: 'EPERM', hint: /\/sys\/fs\/bpf/ })
    assert.throws(() => map.pin(`${directory}/with.dot`), { code: 'EPERM' })
    assert.throws(() => map.pin(''), { code: 'XDP_BAD_OPTION' })
    assert.throws(() => BpfMap.openPinned(`${directory}/nothing`), { code: 'XDP_NOT_FOUND' })
    assert.throws(() => BpfProgram.openPinned(`${directory}/taken`), {
      code: 'XDP_BAD_OPTION',
      message: /bpf-map/,
    })
    assert.throws(() => BpfProgram.fromFd(map.fd), { code: 'XDP_BAD_OPTION' })
    assert.equal(ensureBpfFileSystem(), false)
  })
})

describe('probes', { skip: needsRoot }, () => {
  test('find what every kernel since 5.18 has, and say why not of what none has', () => {
    const isModern = kernelAtLeast(5, 18)
    for (const feature of [
      probeProgramType('xdp'),
      probeMapType('hash'),
      probeMapType('xskmap'),
      probeMapType('lpm_trie'),
      probeMapType('array_of_maps'),
      probeHelper('redirect_map'),
      probeHelper('map_lookup_elem'),
      probeHelper('ktime_get_ns'),
    ]) {
      assert.equal(feature.available, true, feature.why)
    }
    for (const feature of [
      probeMapType('ringbuf'),
      probeHelper('ringbuf_output'),
      probeXdpLink(),
      probeFrags(),
      probeLiveFrames(),
    ]) {
      assert.ok(feature.available || !isModern, feature.why)
      assert.ok(feature.why.length > 0)
    }
    const wrong = probeHelper('skb_load_bytes')
    assert.equal(wrong.available, false)
    assert.match(wrong.why, /skb_load_bytes/)
    assert.equal(probeHelper('skb_load_bytes', 'sched_cls').available, true)
    const other = probeProgramType('ext')
    assert.equal(other.available, false)
    assert.ok(other.why.length > 0)
  })

  // Only helpers that are there: bpftool 7.1 takes those of other programs for available on newer kernels.
  test('agree with bpftool on the helpers of XDP programs', { skip: needsBpftool }, () => {
    const { program_types, helpers } = bpftool<{
      program_types: Record<string, boolean>
      helpers: Record<string, string[]>
    }>('feature', 'probe', 'kernel')
    assert.equal(probeProgramType('xdp').available, program_types['have_xdp_prog_type'])
    const available = new Set(helpers['xdp_available_helpers'])
    for (const helper of [
      'xdp_adjust_head',
      'fib_lookup',
      'csum_diff',
      'perf_event_output',
      'tail_call',
      'xdp_load_bytes',
    ] as const) {
      assert.equal(probeHelper(helper).available, available.has(`bpf_${helper}`), helper)
    }
  })

  test('run once and leave no descriptor', () => {
    const before = openDescriptors()
    assert.equal(probeMapType('devmap'), probeMapType('devmap'))
    probeHelper('redirect')
    probeHelper('l3_csum_replace')
    assert.deepEqual(openDescriptors(), before)
  })
})
