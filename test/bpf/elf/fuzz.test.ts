// Corrupt, truncated and hostile objects: whatever is done to real ones, they are read, or refused by a typed error.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { BtfError, kernelBtf } from '../../../src/bpf/btf/index.js'
import { CoreRelocator } from '../../../src/bpf/elf/core.js'
import { BpfObject, ElfError } from '../../../src/bpf/elf/index.js'
import { resolveExterns } from '../../../src/bpf/elf/externs.js'
import { readElf } from '../../../src/bpf/elf/file.js'
import { objectBtf } from '../../../src/bpf/elf/object-btf.js'
import { Btf, VMLINUX_BTF } from '../../../src/bpf/btf/index.js'
import { OptionError } from '../../../src/kernel/errors.js'
import { compiled, needsClang } from './compile.js'

/** Numbers from 0 to `below` - 1, the same ones every time (Marsaglia's xorshift). */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1
  return (below) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

const hasKernelTypes = ((): boolean => {
  try {
    readFileSync(VMLINUX_BTF)
    return true
  } catch {
    return false
  }
})()

/** Everything that is done with an object before the kernel sees it. True when nothing was wrong. */
function digest(bytes: Uint8Array): boolean {
  try {
    const object = BpfObject.parse(bytes, { name: 'fuzzed' })
    for (const { name } of object.globals) {
      try {
        object.setGlobal(name, 1)
      } catch (error) {
        if (!(error instanceof OptionError)) throw error
      }
    }
    const file = readElf(bytes)
    if (object.btf) objectBtf(object.btf, file, [1, 2, 1000])
    const relocator = object.btf && hasKernelTypes ? new CoreRelocator(object.btf, kernelBtf) : undefined
    for (const { name } of object.programs) {
      const linked = object.link(name)
      relocator?.relocate(linked.bytes, linked.relocations, name)
      if (hasKernelTypes) resolveExterns(linked, object.btf, kernelBtf)
    }
    return true
  } catch (error) {
    if (error instanceof ElfError || error instanceof BtfError) {
      assert.ok(error.message.length < 1000, 'the message is for people')
      return false
    }
    throw error
  }
}

interface Region {
  start: number
  end: number
}

/** The parts of an object worth attacking: its header, its section headers, and every section that is read. */
function regionsOf(bytes: Uint8Array): Region[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const table = Number(view.getBigUint64(40, true))
  const regions = [
    { start: 0, end: 64 },
    { start: table, end: table + view.getUint16(60, true) * 64 },
  ]
  for (const { name, bytes: content } of readElf(bytes).sections) {
    if (content.length === 0 || name.startsWith('.debug') || name.startsWith('.rel.debug')) continue
    const start = content.byteOffset - bytes.byteOffset
    regions.push({ start, end: start + content.length })
  }
  return regions
}

const interesting = [
  0, 1, 2, 7, 8, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff,
]

/** A copy with a few places changed, sometimes cut off. */
function mutate(
  original: Uint8Array,
  regions: readonly Region[],
  random: (below: number) => number,
): Uint8Array {
  const bytes = Uint8Array.from(original)
  const view = new DataView(bytes.buffer)
  for (let change = 0; change <= random(3); change++) {
    const { start, end } = regions[random(regions.length)]
    const at = start + random(end - start)
    switch (random(5)) {
      case 0:
        bytes[at] ^= 1 << random(8)
        break
      case 1:
        bytes[at] = random(256)
        break
      case 2:
        if (at + 4 <= bytes.length) view.setUint32(at & ~3, interesting[random(interesting.length)], true)
        break
      case 3:
        // A field that is there already, in the place of another.
        bytes.copyWithin(at, start + random(end - start), Math.min(end, start + random(end - start) + 8))
        break
      case 4:
        if (at + 4 <= bytes.length) {
          const word = at & ~3
          view.setUint32(word, view.getUint32(word, true) + random(64) - 32, true)
        }
        break
    }
  }
  return random(25) === 0 ? bytes.subarray(0, random(bytes.length)) : bytes
}

describe('hostile objects', { skip: needsClang }, () => {
  const names = ['maps', 'functions', 'globals', 'core', 'kfuncs', 'legacy'] as const

  test('20,000 mutations of real objects are read or refused by a typed error', { timeout: 120_000 }, () => {
    const random = randomNumbers(0x5eed)
    const objects = names.map((name) => {
      const bytes = compiled(name, { flags: ['-gno-column-info'] })
      assert.ok(digest(bytes), `${name} itself is sound`)
      return { bytes, regions: regionsOf(bytes) }
    })
    const before = process.memoryUsage().arrayBuffers
    let refused = 0
    for (let i = 0; i < 20_400; i++) {
      const { bytes, regions } = objects[i % objects.length]
      const mutant = mutate(bytes, regions, random)
      try {
        if (!digest(mutant)) refused++
      } catch (error) {
        throw new Error(`mutation ${i} of ${names[i % names.length]}`, { cause: error })
      }
    }
    // Neither all nor none: the mutations reach what is checked, and leave some objects sound.
    assert.ok(refused > 4000 && refused < 19_000, `${refused} refused`)
    assert.ok(process.memoryUsage().arrayBuffers - before < 512 * 1024 * 1024, 'nothing large is kept')
  })

  test('an object cut off anywhere is refused', () => {
    const bytes = compiled('globals')
    for (let length = 0; length < bytes.length; length += length < 128 ? 1 : 61) {
      assert.equal(digest(bytes.subarray(0, length)), false, `${length} of ${bytes.length} bytes`)
    }
  })

  test('random bytes behind a sound header are refused', () => {
    const random = randomNumbers(7)
    const header = compiled('globals').subarray(0, 64)
    for (let i = 0; i < 500; i++) {
      const bytes = Uint8Array.from({ length: 64 + random(2000) }, () => random(256))
      bytes.set(header)
      digest(bytes)
    }
  })

  test('20,000 mutations of BTF are read or refused by a typed error', { timeout: 120_000 }, () => {
    const random = randomNumbers(99)
    const types = names.slice(0, 5).map((name) => {
      const section = readElf(compiled(name)).sections.find((one) => one.name === '.BTF')!
      return Uint8Array.from(section.bytes)
    })
    for (let i = 0; i < 20_000; i++) {
      const bytes = types[i % types.length]
      const mutant = mutate(
        bytes,
        [
          { start: 0, end: 24 },
          { start: 0, end: bytes.length },
        ],
        random,
      )
      try {
        const btf = Btf.parse(mutant)
        for (let id = 1; id <= btf.lastId; id++) {
          try {
            btf.type(id)
            btf.sizeOf(id)
          } catch (error) {
            if (!(error instanceof BtfError)) throw error
          }
        }
        btf.findAll('flow', true)
      } catch (error) {
        if (!(error instanceof BtfError)) throw new Error(`mutation ${i}`, { cause: error })
      }
    }
  })
})
