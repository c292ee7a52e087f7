// A program that takes the place of a function in another one.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("freplace") int instead(__u32 x) { return x * 7; }

char _license[] SEC("license") = "GPL";
