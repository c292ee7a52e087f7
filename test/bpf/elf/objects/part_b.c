// Half of an object: what the other half (part_a.c) calls and counts in.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
__u32 shared_counter = 5;
static __attribute__((noinline)) int helper(int x) { return x * 2; }
__attribute__((noinline)) int other(int x) { return helper(x) + shared_counter; }
