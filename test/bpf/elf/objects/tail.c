// A program that is split: each part calls the next through a program array that the object fills.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define JUMPS(entries) \
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY); \
	__uint(max_entries, entries); \
	__uint(key_size, 4); \
	__array(values, int (struct xdp_md *))

int second(struct xdp_md *ctx);
int third(struct xdp_md *ctx);
#ifdef FUNCTION
__attribute__((noinline)) int no_program(struct xdp_md *ctx) { return XDP_PASS; }
#define NEXT no_program
#else
#define NEXT second
#endif

struct { JUMPS(4); } first_jumps SEC(".maps") = { .values = { [3] = NEXT } };
struct { JUMPS(2); } last_jumps SEC(".maps") = { .values = { [0] = third, [1] = second } };

/* How many packets got to each part: the global variables that `xdp load --pin` pins. */
__u64 reached[3];

/* The verdict of the last part. */
const volatile __u32 verdict = XDP_DROP;

SEC("xdp") int first(struct xdp_md *ctx)
{
	__sync_fetch_and_add(&reached[0], 1);
	bpf_tail_call(ctx, &first_jumps, 3);
	return XDP_PASS;
}

SEC("xdp") int second(struct xdp_md *ctx)
{
	__sync_fetch_and_add(&reached[1], 1);
	bpf_tail_call(ctx, &last_jumps, 0);
	return XDP_PASS;
}

SEC("xdp") int third(struct xdp_md *ctx)
{
	__sync_fetch_and_add(&reached[2], 1);
	return verdict;
}

char _license[] SEC("license") = "GPL";
