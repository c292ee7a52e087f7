// Error numbers as calls answer them, below zero (include/uapi/asm-generic/errno-base.h, errno.h; include/linux/errno.h).

export const EPERM = 1
export const ENOENT = 2
export const EINTR = 4
export const ENXIO = 6
export const E2BIG = 7
export const EBADF = 9
export const EAGAIN = 11
export const EACCES = 13
export const EBUSY = 16
export const EEXIST = 17
export const ENODEV = 19
export const EINVAL = 22
export const ENOSPC = 28
export const ERANGE = 34
export const EPROTO = 71
export const EMSGSIZE = 90
export const EOPNOTSUPP = 95
export const EAFNOSUPPORT = 97
export const EADDRINUSE = 98
export const EADDRNOTAVAIL = 99
export const ENETDOWN = 100
export const ENETUNREACH = 101
export const ENOBUFS = 105
export const ETIMEDOUT = 110
export const EHOSTUNREACH = 113
/** The kernel's own, which it answers user space with all the same. */
export const ENOTSUPP = 524
