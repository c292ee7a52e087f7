// Global data of every kind: constants set before load, variables with and without first values, sections of their own.
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct limits { __u16 low; __u32 high; char tag[4]; };

const volatile __u8 verdict = XDP_PASS;
const volatile __s16 negative = -5;
const volatile __u32 wanted_length = 0;
const volatile __u64 wide = 1;
const volatile bool counting = false;
const volatile char device[8] = "eth0";
const volatile __u32 list[3] = { 1, 2, 3 };
const volatile struct limits limits = { 1, 2, "ab" };
const volatile __u32 special SEC(".rodata.special") = 11;

__u64 total = 100;
__u32 extra SEC(".data.extra") = 7;
static volatile __u32 hidden_count = 3;
__u64 seen;
__u64 sum;
__u32 table[16];

SEC("xdp") int globals(struct xdp_md *ctx)
{
	__u64 length = ctx->data_end - ctx->data;

	if (wanted_length && length != wanted_length)
		return XDP_DROP;
	if (counting) {
		__sync_fetch_and_add(&seen, 1);
		hidden_count += 2;
		total += wide;
		extra += special;
		sum = (__u64)(limits.low + limits.high + limits.tag[1] + list[2] + device[1]);
		sum += (__s64)negative;
		table[length & 15] = hidden_count;
	}
	return verdict;
}

char _license[] SEC("license") = "GPL";
