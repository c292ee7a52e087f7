// The kernel's numbers for map, program, attach and link types, under the names bpftool gives them (include/uapi/linux/bpf.h).

/** Map types by name: `BPF_MAP_TYPE_…` in lower case. */
export const MAP_TYPES = {
  hash: 1,
  array: 2,
  prog_array: 3,
  perf_event_array: 4,
  percpu_hash: 5,
  percpu_array: 6,
  stack_trace: 7,
  cgroup_array: 8,
  lru_hash: 9,
  lru_percpu_hash: 10,
  lpm_trie: 11,
  array_of_maps: 12,
  hash_of_maps: 13,
  devmap: 14,
  sockmap: 15,
  cpumap: 16,
  xskmap: 17,
  sockhash: 18,
  cgroup_storage: 19,
  reuseport_sockarray: 20,
  percpu_cgroup_storage: 21,
  queue: 22,
  stack: 23,
  sk_storage: 24,
  devmap_hash: 25,
  struct_ops: 26,
  ringbuf: 27,
  inode_storage: 28,
  task_storage: 29,
  bloom_filter: 30,
  user_ringbuf: 31,
  cgrp_storage: 32,
  arena: 33,
} as const
export type MapType = keyof typeof MAP_TYPES

/** Program types by name: `BPF_PROG_TYPE_…` in lower case. */
export const PROGRAM_TYPES = {
  socket_filter: 1,
  kprobe: 2,
  sched_cls: 3,
  sched_act: 4,
  tracepoint: 5,
  xdp: 6,
  perf_event: 7,
  cgroup_skb: 8,
  cgroup_sock: 9,
  lwt_in: 10,
  lwt_out: 11,
  lwt_xmit: 12,
  sock_ops: 13,
  sk_skb: 14,
  cgroup_device: 15,
  sk_msg: 16,
  raw_tracepoint: 17,
  cgroup_sock_addr: 18,
  lwt_seg6local: 19,
  lirc_mode2: 20,
  sk_reuseport: 21,
  flow_dissector: 22,
  cgroup_sysctl: 23,
  raw_tracepoint_writable: 24,
  cgroup_sockopt: 25,
  tracing: 26,
  struct_ops: 27,
  ext: 28,
  lsm: 29,
  sk_lookup: 30,
  syscall: 31,
  netfilter: 32,
} as const
export type ProgramType = keyof typeof PROGRAM_TYPES

/** Where an XDP program is meant to run: on a device, or behind a devmap or cpumap entry. */
export const ATTACH_TYPES = {
  xdp_devmap: 33, // BPF_XDP_DEVMAP
  xdp_cpumap: 35, // BPF_XDP_CPUMAP
  xdp: 37, // BPF_XDP
} as const
export type AttachType = keyof typeof ATTACH_TYPES

/** Link types by name: `BPF_LINK_TYPE_…` in lower case. */
export const LINK_TYPES = {
  raw_tracepoint: 1,
  tracing: 2,
  cgroup: 3,
  iter: 4,
  netns: 5,
  xdp: 6,
  perf_event: 7,
  kprobe_multi: 8,
  struct_ops: 9,
  netfilter: 10,
  tcx: 11,
  uprobe_multi: 12,
  netkit: 13,
  sockmap: 14,
} as const
export type LinkType = keyof typeof LINK_TYPES

/** What an XDP program says of a packet: `enum xdp_action`. */
export const XDP_ACTIONS = { aborted: 0, drop: 1, pass: 2, tx: 3, redirect: 4 } as const
export type Verdict = keyof typeof XDP_ACTIONS

/** Names of a table by number. */
function inverse<Name extends string>(table: Readonly<Record<Name, number>>): ReadonlyMap<number, Name> {
  return new Map((Object.keys(table) as Name[]).map((name) => [table[name], name]))
}

export const mapTypeNames = inverse<MapType>(MAP_TYPES)
export const programTypeNames = inverse<ProgramType>(PROGRAM_TYPES)
export const linkTypeNames = inverse<LinkType>(LINK_TYPES)
export const verdictNames = inverse<Verdict>(XDP_ACTIONS)

/** BPF_OBJ_NAME_LEN less its zero: how long the name of a map or program may be. */
export const NAME_LENGTH = 15

/** A name as the kernel takes it: letters, digits, `_` and `.`, cut to 15; anything else becomes `_`. */
export function kernelName(name: string): string {
  return name.replace(/[^A-Za-z0-9_.]/g, '_').slice(0, NAME_LENGTH)
}
