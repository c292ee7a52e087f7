#include "twin.h"
/* Packets and bytes by IP protocol, in a per-CPU array. */
struct counter { __u64 packets, bytes; };
MAP(counters, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct counter, 256);
SEC("xdp") int program(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	if ((void *)(eth + 1) > end) return XDP_PASS;
	__u32 key;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (void *)(eth + 1);
		if ((void *)(ip + 1) > end) return XDP_PASS;
		if (ip->version != 4 || ip->ihl < 5) return XDP_PASS;
		key = ip->protocol;
	} else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = (void *)(eth + 1);
		if ((void *)(ip + 1) > end || ip->version != 6) return XDP_PASS;
		key = ip->nexthdr;
	} else return XDP_PASS;
	struct counter *counter = bpf_map_lookup_elem(&counters, &key);
	if (!counter) return XDP_PASS;
	counter->packets++;
	counter->bytes += end - data;
	return XDP_PASS;
}
