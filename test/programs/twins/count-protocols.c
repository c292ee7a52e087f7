#include "walk.h"
/* Packets and bytes by protocol: IPv4 from 0, IPv6 from 256, ARP 512, others 513, malformed 514. */
struct count { __u64 packets, bytes; };
MAP(protocols, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct count, 515);
SEC("xdp") int program(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end, *at = data;
	__u16 id;
	__u32 slot = 514;
	__be16 type = walk_tags(&at, end, &id);
	if (type == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = at;
		if ((void *)(ip + 1) > end) goto count;
		if (ip->version != 4 || ip->ihl < 5) goto count;
		slot = ip->protocol;
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = at;
		if ((void *)(ip + 1) > end || ip->version != 6) goto count;
		at = ip + 1;
		int is_fragment, protocol = walk_extensions(&at, end, ip->nexthdr, &is_fragment);
		if (protocol >= 0) slot = 256 + protocol;
	} else if (type == bpf_htons(ETH_P_ARP)) slot = 512;
	else if (type) slot = 513;
count:;
	struct count *count = bpf_map_lookup_elem(&protocols, &slot);
	if (!count) return XDP_PASS;
	count->packets++;
	count->bytes += LENGTH(ctx, data, end);
	return XDP_PASS;
}
