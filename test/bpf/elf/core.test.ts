// CO-RE: what a program measures in the running kernel, against the kernel's own types; and what it says when they lack something.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { kernelBtf } from '../../../src/bpf/btf/index.js'
import type { BtfComposite, BtfMember } from '../../../src/bpf/btf/types.js'
import { essentialName } from '../../../src/bpf/elf/core-compat.js'
import { BpfObject } from '../../../src/bpf/elf/index.js'
import { VerifierError } from '../../../src/bpf/index.js'
import { needsRoot } from '../../support/lab.js'
import { compiled, needsClang } from './compile.js'

/** A member of a kernel struct with its bit offset, in anonymous structs and unions too. */
function member(id: number, name: string): BtfMember {
  const btf = kernelBtf()
  for (const one of (btf.type(id) as BtfComposite).members) {
    if (one.name === name) return one
    const type = one.name === '' ? btf.resolved(one.type) : undefined
    if (type?.kind !== 'struct' && type?.kind !== 'union') continue
    try {
      const found = member(btf.resolve(one.type), name)
      return { ...found, bitOffset: one.bitOffset + found.bitOffset }
    } catch {
      // Not in this one.
    }
  }
  throw new Error(`no ${name}`)
}
const structOf = (name: string): number => kernelBtf().find(name, 'struct')!
const byteOffset = (struct: string, name: string): number => member(structOf(struct), name).bitOffset / 8

describe('CO-RE', { skip: needsRoot || needsClang }, () => {
  for (const optimise of ['-O1', '-O2', '-O3'] as const) {
    test(`${optimise}: every kind of relocation gives what the kernel's types say`, () => {
      const object = BpfObject.parse(compiled('core', { optimise }), { name: 'core' })
      using loaded = object.load()
      assert.equal(loaded.program('measure').testRun({ packet: new Uint8Array(64) }).verdict, 'pass')
      const bits = (name: string): BtfMember => member(structOf('sk_buff'), name)
      const type = bits('pkt_type')
      const width = type.bitSize!
      // A bit field is loaded with the type it is declared of: one byte here.
      const shift = 64 - (width + (type.bitOffset % 8))
      assert.deepEqual(loaded.readGlobal('results'), {
        ifindex_offset: byteOffset('net_device', 'ifindex'),
        ifindex_size: 4,
        name_offset: byteOffset('net_device', 'name'),
        flavoured_offset: byteOffset('net_device', 'ifindex'),
        missing: 0,
        present: 1,
        ip_summed_size: 1,
        sk_buff_size: kernelBtf().sizeOf(structOf('sk_buff')),
        absent_size: 0,
        type_there: 1,
        type_absent: 0,
        enum_value: 2,
        enum_there: 1,
        enum_absent: 0,
        pid_signed: 1,
        len_signed: 0,
        next_offset: byteOffset('task_struct', 'tasks') + 8,
        comm_offset: byteOffset('task_struct', 'comm') + 3,
        type_id: structOf('task_struct'),
        local_id: object.btf!.find('task_struct', 'struct'),
        lshift: shift,
        rshift: 64 - width,
        reached: 0,
        saddr: 12,
        anonymous: 1,
      })
    })
  }

  test('a program that cannot do without what the kernel lacks says what that is', () => {
    const object = BpfObject.parse(compiled('core'), { name: 'core' })
    assert.throws(
      () => object.load({ only: 'needs_missing' }),
      (error) => {
        assert.equal((error as { code: string }).code, 'XDP_ELF')
        assert.match(
          (error as Error).message,
          /needs struct net_device\.no_such_member, which this kernel does not have/,
        )
        assert.match((error as { hint: string }).hint, /bpf_core_field_exists/)
        assert.ok((error as Error).cause instanceof VerifierError)
        return true
      },
    )
  })

  test('a flavour is what follows three underscores', () => {
    assert.equal(essentialName('task_struct'), 'task_struct')
    assert.equal(essentialName('task_struct___old'), 'task_struct')
    assert.equal(essentialName('a___b___c'), 'a___b')
    assert.equal(essentialName('___x'), '___x')
    assert.equal(essentialName('x____y'), 'x____y')
    assert.equal(essentialName('x___'), 'x___')
  })
})
