// What `xdp capture` says of its files before it begins: the configuration, and those to read and write.
import assert from 'node:assert/strict'
import { linkSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { it, type TestContext } from 'node:test'
import { pcapFile, record } from '../packet/pcap-files.js'
import { startOnTerminal, xdp, xdpOk } from './xdp.js'

function directoryOf(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'capture-config-'))
  t.after(() => rmSync(directory, { recursive: true }))
  return directory
}

it('what --print-config shows is taken as it is, and comes to the same', async (t) => {
  const path = join(directoryOf(t), 'capture.yaml')
  for (const args of [
    [],
    ['-m', 'divert'],
    ['-m', 'mirror', '-B', '1024', '--buffer', '10', '-Q', '0,2'],
    ['-s', '96', 'udp'],
  ]) {
    const printed = await xdpOk('capture', '-i', 'eth7', ...args, '--print-config')
    writeFileSync(path, printed)
    assert.equal(await xdpOk('capture', '--config', path, '--print-config'), printed)
  }
})

it('a filter that is none is found before anything else, and in its place', async (t) => {
  const path = join(directoryOf(t), 'capture.yaml')
  writeFileSync(path, 'capture: {interface: eth7, filter: udp prot 53}')
  const pointer = '"prot" cannot stand here; did you mean "port"?\n  udp prot 53\n      ^^^^\n'
  const fromFile = await xdp(['capture', '--config', path, '--print-config'])
  assert.deepEqual([fromFile.status, fromFile.stderr], [2, `xdp: ${path}: capture.filter: ${pointer}`])
  const typed = await xdp(['capture', 'eth7', 'udp', 'prot', '53', '--print-config'])
  assert.deepEqual([typed.status, typed.stderr], [2, `xdp: ${pointer}`])
})

it('a file is not emptied that is to be read, by whatever name', async (t) => {
  const directory = directoryOf(t)
  const [path, alias] = [join(directory, 'a.pcap'), join(directory, 'b.pcap')]
  const header = Buffer.from('d4c3b2a1020004000000000000000000ffff000001000000', 'hex')
  writeFileSync(path, header)
  linkSync(path, alias)
  const { status, stderr } = await xdp(['capture', '-r', path, '-w', alias])
  assert.deepEqual(
    [status, stderr],
    [2, `xdp: ${alias} is read and written at once. Write to another file.\n`],
  )
  assert.deepEqual(readFileSync(path), header)
  assert.equal((await xdp(['capture', '-r', path, '-w', join(directory, 'c.pcap')])).status, 0)
})

it('a file that is damaged at its first packet is no success', async (t) => {
  const directory = directoryOf(t)
  const file = join(directory, 'cut.pcap')
  writeFileSync(file, pcapFile([record(new Uint8Array(60))]).subarray(0, 30))
  for (const words of [['-n'], ['--json'], ['-w', join(directory, 'copy.pcapng')]]) {
    const { status, stdout, stderr } = await xdp(['capture', '-r', file, ...words])
    assert.deepEqual([status, stdout], [1, ''])
    assert.match(stderr, /cut\.pcap: the file ends inside a record at byte 24: /)
  }
})

it('a capture file is not written onto a terminal; text is', async (t) => {
  const file = join(directoryOf(t), 'one.pcap')
  writeFileSync(file, pcapFile([record(new Uint8Array(60).fill(0x58))]))
  const sentence =
    'xdp: Standard output is a terminal, and a capture file is no text. ' +
    'Pipe it on, name a file with -w, or leave -w out for text.\r\n'
  for (const words of [
    ['-w', '-'],
    ['--format', 'pcap'],
  ]) {
    const { status, stdout } = await startOnTerminal(t, ['capture', '-r', file, ...words]).end
    assert.deepEqual([status, stdout], [2, sentence])
  }
  const text = await startOnTerminal(t, ['capture', '-r', file, '-n']).end
  assert.equal(text.status, 0)
  assert.match(text.stdout, /58:58:58:58:58:58/)
  const piped = await xdp(['capture', '-r', file, '-w', '-'])
  assert.equal(piped.stdout.slice(0, 4), '\n\r\r\n')
})
