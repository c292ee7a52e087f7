// Half of an object: it calls and counts in the other half (part_b.c), to which bpftool links it.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
extern int other(int x);
extern __u32 shared_counter;
SEC("xdp") int a(struct xdp_md *ctx) { shared_counter++; return other(3); }
char _license[] SEC("license") = "GPL";
