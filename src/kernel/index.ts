// The kernel floor: what the kernel can be asked, and what it answers.
export * from './commands.js'
export * from './descriptor.js'
export * from './errno.js'
export * from './errors.js'
export * from './ethtool-ioctl.js'
export * from './interfaces.js'
export * from './limits.js'
export * from './memory.js'
export * from './namespace.js'
export {
  DISCONNECT,
  READABLE,
  WRITABLE,
  native,
  type Native,
  type NativeWatcher,
  type Pointers,
} from './native.js'
export * from './netlink/index.js'
export * from './promiscuous.js'
export * from './thread.js'
export * from './version.js'
