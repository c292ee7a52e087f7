// Errors: the call, the errno's name, what was asked, advice; the same through every wrapper.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  ENOTSUPP,
  KernelError,
  OptionError,
  UnsupportedError,
  check,
  hasCapability,
  kernelAtLeast,
  memoryLockLimit,
  missingCapabilities,
  native,
  parseVersion,
  requireKernel,
} from '../../src/kernel/index.js'

test('check passes values and turns -errno into an error with code, errno, syscall and hint', () => {
  assert.equal(check(0, 'x'), 0)
  assert.equal(check(7, 'x'), 7)
  assert.throws(
    () => check(-1, 'bind', { about: 'veth0 queue 3' }),
    (error: KernelError) => {
      assert.equal(error.code, 'EPERM')
      assert.equal(error.errno, 1)
      assert.equal(error.syscall, 'bind')
      assert.equal(error.message, 'bind (veth0 queue 3) failed: operation not permitted (EPERM)')
      assert.match(error.hint ?? '', /CAP_NET_ADMIN/)
      assert.ok(error instanceof Error)
      return true
    },
  )
})

test("the kernel's own words and the caller's advice stand in the error", () => {
  const error = new KernelError('netlink RTM_NEWLINK', 22, {
    said: 'Peer MTU is too large',
    hint: 'Lower it.',
  })
  assert.equal(error.message, 'netlink RTM_NEWLINK failed: invalid argument (EINVAL): Peer MTU is too large')
  assert.equal(error.said, 'Peer MTU is too large')
  assert.equal(error.hint, 'Lower it.')
})

test('errno values that libc does not know have a name all the same', () => {
  assert.equal(new KernelError('bpf', ENOTSUPP).code, 'ENOTSUPP')
  assert.equal(new KernelError('bpf', 999).code, 'E999')
})

test('a real failing call carries the real errno', () => {
  assert.throws(() => check(native.close(-1), 'close'), { code: 'EBADF', errno: 9 })
  assert.throws(() => check(native.socket(-1, 0, 0), 'socket'), { code: 'EAFNOSUPPORT' })
})

test('an address that does not fit its structure is refused instead of written beside it', () => {
  assert.equal(native.bpf(0, new Uint8Array(8), [4, new Uint8Array(1)]), -22)
  assert.equal(native.bpf(0, new Uint8Array(8), [-8, new Uint8Array(1)]), -22)
  assert.equal(native.bpf(0, new Uint8Array(8), [NaN, new Uint8Array(1)]), -22)
})

test('every error class has a stable code', () => {
  assert.equal(new OptionError('queue', 'no').code, 'XDP_BAD_OPTION')
  assert.equal(new UnsupportedError('no').code, 'XDP_UNSUPPORTED')
})

test('kernel versions are read and compared by number', () => {
  assert.deepEqual(parseVersion('6.18.44-fc'), [6, 18])
  assert.deepEqual(parseVersion('5.4'), [5, 4])
  assert.equal(parseVersion('unknown'), undefined)
  assert.ok(kernelAtLeast(4, 18))
  assert.ok(!kernelAtLeast(99, 0))
  assert.throws(() => requireKernel('Time travel', 99, 1), {
    code: 'XDP_UNSUPPORTED',
    message: /needs Linux 99\.1/,
  })
})

test('limits and capabilities are those /proc shows', () => {
  const { soft, hard } = memoryLockLimit()
  assert.ok(soft > 0 && hard >= soft)
  assert.ok(hasCapability('CAP_NET_ADMIN'), 'the tests run as root')
  assert.deepEqual(missingCapabilities(['CAP_NET_ADMIN', 'CAP_NET_RAW']), [])
})
