#include "twin.h"
MAP(xsks_map, BPF_MAP_TYPE_DEVMAP, __u32, __u32, 1);
MAP(xdp_stats_map, BPF_MAP_TYPE_ARRAY, __u32, __u32, 1);
SEC("xdp") int program(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	if ((void *)(eth + 1) > end || eth->h_proto == bpf_htons(ETH_P_ARP)) return XDP_PASS;
	__u32 zero = 0;
	__u32 *count = bpf_map_lookup_elem(&xdp_stats_map, &zero);
	if (!count) return XDP_PASS;
	if (__sync_fetch_and_add(count, 1) & 1) return XDP_PASS;
	return bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS);
}
