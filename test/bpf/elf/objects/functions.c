// Subprograms: static and global, nested, shared by two programs, with globals of their own, and one taken by address.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define noinline __attribute__((noinline))

__u32 calls;
const volatile __u32 factor = 3;

#ifdef LIBBPF
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64);
} numbers SEC(".maps");
#else
struct bpf_map_def { unsigned int type, key_size, value_size, max_entries, map_flags; };
struct bpf_map_def numbers SEC("maps") = {
	.type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 4,
};
#endif

static noinline __u32 innermost(__u32 x) { __sync_fetch_and_add(&calls, 1); return x * factor + 1; }
static noinline __u32 inner(__u32 x) { return innermost(x + 1) ^ innermost(x + 2); }
noinline int global_one(__u32 x) { return inner(x) + 10; }
noinline int unused(__u32 x) { return x; }
static noinline __u32 lookup(__u32 key)
{
	__u64 *value = bpf_map_lookup_elem(&numbers, &key);

	return value ? *value : 99;
}

struct loop { __u64 sum; };

// Verified on its own, as a global function that all can see is, it would have to test its pointer first.
__attribute__((visibility("hidden"))) noinline __u64 hidden_one(struct loop *loop) { return loop->sum + 1; }

static long add(void *map, __u32 *key, __u64 *value, struct loop *loop)
{
	loop->sum += *value;
	return 0;
}

// Under LIBBPF is what libbpf does not take: static functions beside programs, maps without types.
#ifdef LIBBPF
#define NEAR
#else
#define NEAR __attribute__((section("xdp/near")))
#endif
static noinline NEAR int beside(__u32 x) { return innermost(x) & 0xff; }

SEC("xdp") int first(struct xdp_md *ctx)
{
	return global_one(ctx->data_end - ctx->data) + lookup(2);
}

#ifdef LIBBPF
SEC("xdp")
#else
SEC("xdp/near")
#endif
int near(struct xdp_md *ctx)
{
	return beside(ctx->data_end - ctx->data) + global_one(1);
}

SEC("xdp") int each(struct xdp_md *ctx)
{
	struct loop loop = {};

	bpf_for_each_map_elem(&numbers, add, &loop, 0);
	return hidden_one(&loop) + lookup(0);
}

SEC("socket") int shares(struct __sk_buff *skb) { return inner(skb->len); }

char _license[] SEC("license") = "GPL";
