#include "tags.h"
/* One packet of EVERY, or by chance one of so many on average (RANDOM), but nothing that discovers neighbours. */
MAP(xsks_map, BPF_MAP_TYPE_DEVMAP, __u32, __u32, 1);
MAP(since_sample, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u32, 1);
SEC("xdp") int program(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	if ((void *)(eth + 1) > end || discovers(eth->h_proto, eth + 1, end)) return XDP_PASS;
#ifdef RANDOM
	if (bpf_get_prandom_u32() >= (__u32)((0x100000000ull + EVERY / 2) / EVERY)) return XDP_PASS;
#else
	__u32 zero = 0;
	__u32 *since = bpf_map_lookup_elem(&since_sample, &zero);
	if (!since) return XDP_PASS;
	__u32 count = *since + 1;
	if (count < EVERY) {
		*since = count;
		return XDP_PASS;
	}
	*since = 0;
#endif
	return bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS);
}
