#include "twin.h"
/* Drops UDP to port 53 over IPv4 with options and IPv6, behind up to two VLAN tags. */
struct vlan { __be16 tci, type; };
SEC("xdp") int program(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	if ((void *)(eth + 1) > end) return XDP_PASS;
	void *at = eth + 1;
	__be16 type = eth->h_proto;
#pragma unroll
	for (int i = 0; i < 2; i++) {
		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD)) break;
		struct vlan *tag = at;
		if ((void *)(tag + 1) > end) return XDP_PASS;
		type = tag->type;
		at = tag + 1;
	}
	struct udphdr *udp;
	if (type == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = at;
		if ((void *)(ip + 1) > end) return XDP_PASS;
		if (ip->version != 4 || ip->ihl < 5) return XDP_PASS;
		if (ip->frag_off & bpf_htons(0x1fff)) return XDP_PASS;
		if (ip->protocol != IPPROTO_UDP) return XDP_PASS;
		udp = (void *)ip + ip->ihl * 4;
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = at;
		if ((void *)(ip + 1) > end || ip->version != 6) return XDP_PASS;
		if (ip->nexthdr != IPPROTO_UDP) return XDP_PASS;
		udp = (void *)(ip + 1);
	} else return XDP_PASS;
	if ((void *)(udp + 1) > end) return XDP_PASS;
	return udp->dest == bpf_htons(53) ? XDP_DROP : XDP_PASS;
}
