// What an XDP program is given and may answer (include/uapi/linux/bpf.h: struct xdp_md, enum xdp_action).

/** Offsets in the context (struct xdp_md), each a u32. */
export const XDP_MD = {
  data: 0,
  dataEnd: 4,
  dataMeta: 8,
  ingressIfindex: 12,
  rxQueueIndex: 16,
  egressIfindex: 20,
} as const

export const XDP_ABORTED = 0
export const XDP_DROP = 1
export const XDP_PASS = 2
export const XDP_TX = 3
export const XDP_REDIRECT = 4
