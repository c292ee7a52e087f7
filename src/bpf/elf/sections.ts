// What the name of a section says of the programs in it: SEC("xdp"), as libbpf reads it (section_defs in libbpf.c).
import type { AttachType, ProgramType } from '../constants.js'

/** The kind of program that a section name stands for. */
export interface SectionKind {
  type: ProgramType
  /** XDP: where the program is meant to run. */
  attachType?: AttachType
  /** Other types: `enum bpf_attach_type` of the load, where the type wants one. */
  expectedAttach?: number
  /** XDP: takes packets in several buffers. */
  frags?: boolean
  sleepable?: boolean
  /** Prefix of the kernel function or type that the program attaches to. Its name follows the slash. */
  attachesTo?: string
}

// enum bpf_attach_type
const SKB_INGRESS = 0
const SKB_EGRESS = 1
const SOCK_CREATE = 2
const SOCK_OPS = 3
const STREAM_PARSER = 4
const STREAM_VERDICT = 5
const SK_MSG_VERDICT = 7
const TRACE_RAW_TP = 23
const TRACE_FENTRY = 24
const TRACE_FEXIT = 25
const MODIFY_RETURN = 26
const LSM_MAC = 27
const TRACE_ITER = 28
const SK_LOOKUP = 36
const NETFILTER = 45
const TCX_INGRESS = 46
const TCX_EGRESS = 47

const kinds: Readonly<Record<string, SectionKind>> = {
  xdp: { type: 'xdp' },
  'xdp/devmap': { type: 'xdp', attachType: 'xdp_devmap' },
  'xdp/cpumap': { type: 'xdp', attachType: 'xdp_cpumap' },
  xdp_devmap: { type: 'xdp', attachType: 'xdp_devmap' },
  xdp_cpumap: { type: 'xdp', attachType: 'xdp_cpumap' },
  'xdp.frags': { type: 'xdp', frags: true },
  'xdp.frags/devmap': { type: 'xdp', attachType: 'xdp_devmap', frags: true },
  'xdp.frags/cpumap': { type: 'xdp', attachType: 'xdp_cpumap', frags: true },
  socket: { type: 'socket_filter' },
  tc: { type: 'sched_cls' },
  'tc/ingress': { type: 'sched_cls', expectedAttach: TCX_INGRESS },
  'tc/egress': { type: 'sched_cls', expectedAttach: TCX_EGRESS },
  'tcx/ingress': { type: 'sched_cls', expectedAttach: TCX_INGRESS },
  'tcx/egress': { type: 'sched_cls', expectedAttach: TCX_EGRESS },
  classifier: { type: 'sched_cls' },
  action: { type: 'sched_act' },
  lwt_in: { type: 'lwt_in' },
  lwt_out: { type: 'lwt_out' },
  lwt_xmit: { type: 'lwt_xmit' },
  lwt_seg6local: { type: 'lwt_seg6local' },
  sockops: { type: 'sock_ops', expectedAttach: SOCK_OPS },
  sk_skb: { type: 'sk_skb' },
  'sk_skb/stream_parser': { type: 'sk_skb', expectedAttach: STREAM_PARSER },
  'sk_skb/stream_verdict': { type: 'sk_skb', expectedAttach: STREAM_VERDICT },
  sk_msg: { type: 'sk_msg', expectedAttach: SK_MSG_VERDICT },
  sk_lookup: { type: 'sk_lookup', expectedAttach: SK_LOOKUP },
  'cgroup/skb': { type: 'cgroup_skb' },
  'cgroup_skb/ingress': { type: 'cgroup_skb', expectedAttach: SKB_INGRESS },
  'cgroup_skb/egress': { type: 'cgroup_skb', expectedAttach: SKB_EGRESS },
  'cgroup/sock': { type: 'cgroup_sock', expectedAttach: SOCK_CREATE },
  flow_dissector: { type: 'flow_dissector' },
  netfilter: { type: 'netfilter', expectedAttach: NETFILTER },
  kprobe: { type: 'kprobe' },
  kretprobe: { type: 'kprobe' },
  uprobe: { type: 'kprobe' },
  uretprobe: { type: 'kprobe' },
  tracepoint: { type: 'tracepoint' },
  tp: { type: 'tracepoint' },
  raw_tracepoint: { type: 'raw_tracepoint' },
  raw_tp: { type: 'raw_tracepoint' },
  perf_event: { type: 'perf_event' },
  syscall: { type: 'syscall', sleepable: true },
  freplace: { type: 'ext', attachesTo: '' },
  fentry: { type: 'tracing', expectedAttach: TRACE_FENTRY, attachesTo: '' },
  fexit: { type: 'tracing', expectedAttach: TRACE_FEXIT, attachesTo: '' },
  fmod_ret: { type: 'tracing', expectedAttach: MODIFY_RETURN, attachesTo: '' },
  tp_btf: { type: 'tracing', expectedAttach: TRACE_RAW_TP, attachesTo: 'btf_trace_' },
  iter: { type: 'tracing', expectedAttach: TRACE_ITER, attachesTo: 'bpf_iter_' },
  lsm: { type: 'lsm', expectedAttach: LSM_MAC, attachesTo: 'bpf_lsm_' },
}
const longestFirst = Object.keys(kinds).sort((a, b) => b.length - a.length)

/**
 * What a section's name says; undefined for a name that says nothing. `xdp`, `xdp/anything` and, as older objects have it,
 * `xdp_anything` are all XDP; a leading `?` (not loaded by default) is left out.
 */
export function kindOfSection(section: string): SectionKind | undefined {
  const name = section.replace(/^\?/, '')
  if (Object.hasOwn(kinds, name)) return kinds[name]
  const known = longestFirst.find((key) => name.startsWith(key) && '/_.'.includes(name[key.length]))
  return known === undefined ? undefined : kinds[known]
}

/** The name behind the first slash of a section's name: what a tracing program attaches to. */
export function targetOfSection(section: string): string | undefined {
  const slash = section.indexOf('/')
  return slash < 0 || slash + 1 === section.length ? undefined : section.slice(slash + 1)
}
