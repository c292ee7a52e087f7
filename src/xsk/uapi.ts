// Constants and structures of include/uapi/linux/if_xdp.h and the socket options AF_XDP uses.

export const AF_XDP = 44
export const SOL_XDP = 283

// Bind flags (sockaddr_xdp.sxdp_flags)
export const XDP_SHARED_UMEM = 1 << 0
export const XDP_COPY = 1 << 1
export const XDP_ZEROCOPY = 1 << 2
export const XDP_USE_NEED_WAKEUP = 1 << 3
/** Kernel 6.6: packets may be in several frames. */
export const XDP_USE_SG = 1 << 4

// Descriptor options (struct xdp_desc)
/** The packet goes on in the next descriptor. */
export const XDP_PKT_CONTD = 1 << 0

// Socket options
export const XDP_MMAP_OFFSETS = 1
export const XDP_RX_RING = 2
export const XDP_TX_RING = 3
export const XDP_UMEM_REG = 4
export const XDP_UMEM_FILL_RING = 5
export const XDP_UMEM_COMPLETION_RING = 6
export const XDP_STATISTICS = 7
export const XDP_OPTIONS = 8
/** Kernel 6.17: descriptors one sendto may transmit in copy mode; 32 before. */
export const XDP_MAX_TX_SKB_BUDGET = 9

/** Answer of XDP_OPTIONS: the socket is in zero-copy mode. */
export const XDP_OPTIONS_ZEROCOPY = 1

/** Ring flag: the kernel wants a system call before it goes on. */
export const XDP_RING_NEED_WAKEUP = 1

// Page offsets of the rings, for mmap. Beyond 32 bits: doubles, never bit operations.
export const XDP_PGOFF_RX_RING = 0
export const XDP_PGOFF_TX_RING = 0x80000000
export const XDP_UMEM_PGOFF_FILL_RING = 0x100000000
export const XDP_UMEM_PGOFF_COMPLETION_RING = 0x180000000

/** Bytes the kernel keeps free at the head of every chunk (XDP_PACKET_HEADROOM). */
export const XDP_PACKET_HEADROOM = 256

// Socket-level options (include/uapi/asm-generic/socket.h)
export const SOL_SOCKET = 1
export const SO_ERROR = 4
export const SO_BUSY_POLL = 46
export const SO_PREFER_BUSY_POLL = 69
export const SO_BUSY_POLL_BUDGET = 70

export const SOCK_RAW = 3
export const MSG_DONTWAIT = 0x40
