// One program of each kind of section; every XDP program has a verdict of its own.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp") int plain(struct xdp_md *ctx) { return XDP_PASS; }
SEC("xdp.frags") int frags(struct xdp_md *ctx) { return XDP_ABORTED; }
SEC("xdp/cpumap") int behind_cpumap(struct xdp_md *ctx) { return XDP_DROP; }
SEC("xdp.frags/devmap") int frags_devmap(struct xdp_md *ctx) { return XDP_DROP; }
SEC("tc") int classify(struct __sk_buff *skb) { return 2; }
SEC("socket") int filter(struct __sk_buff *skb) { return 7; }
#ifndef LIBBPF
SEC("xdp/named") int named(struct xdp_md *ctx) { return XDP_DROP; }
SEC("xdp_sock") int old_style(struct xdp_md *ctx) { return XDP_TX; }
SEC("xdp_devmap") int behind_devmap(struct xdp_md *ctx) { return XDP_PASS; }
SEC("classifier/old") int classify_old(struct __sk_buff *skb) { return 1; }
SEC("?xdp") int on_request(struct xdp_md *ctx) { return XDP_TX; }
SEC("mystery") int unknown(struct xdp_md *ctx) { return XDP_TX; }
#endif
// A second one in the same section.
SEC("xdp") int second(struct xdp_md *ctx) { return XDP_DROP; }

char _license[] SEC("license") = "GPL";
