#include "tags.h"
/* Sends packets back: hardware addresses exchanged, from SWAP 1 on IP addresses, with 2 the ports of UDP and TCP. */
#define EXCHANGE(type, a, b)                                                                                  \
	do {                                                                                                  \
		type was = a;                                                                                 \
		a = b;                                                                                        \
		b = was;                                                                                      \
	} while (0)
SEC("xdp") int program(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end, *at;
	struct ethhdr *eth = data;
	__be16 type;
	if ((void *)(eth + 1) > end || !step_over_tags(eth, &at, end, &type)) return XDP_PASS;
	if (eth->h_dest[0] & 1 || discovers(type, at, end)) return XDP_PASS;
#if SWAP > 0
	if (type == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = at;
		if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5) return XDP_PASS;
#if SWAP > 1
		if (ip->frag_off & bpf_htons(0x1fff)) return XDP_PASS;
		if (ip->protocol != IPPROTO_UDP && ip->protocol != IPPROTO_TCP) return XDP_PASS;
		__be16 *ports = at + ip->ihl * 4;
		if ((void *)(ports + 2) > end) return XDP_PASS;
		EXCHANGE(__be16, ports[0], ports[1]);
#endif
		EXCHANGE(__be32, ip->saddr, ip->daddr);
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = at;
		if ((void *)(ip + 1) > end || ip->version != 6) return XDP_PASS;
#if SWAP > 1
		__u8 next = ip->nexthdr;
		at = ip + 1;
#pragma clang loop unroll(disable)
		for (int i = 0; i < 9; i++) {
			if (next != 0 && next != 43 && next != 60 && next != 44 && next != 51) break;
			__u8 *header = at;
			if (i == 8 || (void *)(header + 8) > end) return XDP_PASS;
			__u32 length = (header[1] + 1) * 8;
			if (next == 51) length = (header[1] + 2) * 4;
			if (next == 44) {
				length = 8;
				if (*(__be16 *)(header + 2) & bpf_htons(0xfff8)) return XDP_PASS;
			}
			next = header[0];
			at = header + length;
		}
		if (next != IPPROTO_UDP && next != IPPROTO_TCP) return XDP_PASS;
		__be16 *ports = at;
		if ((void *)(ports + 2) > end) return XDP_PASS;
		EXCHANGE(__be16, ports[0], ports[1]);
#endif
		__u64 *words = (void *)&ip->saddr;
		EXCHANGE(__u64, words[0], words[2]);
		EXCHANGE(__u64, words[1], words[3]);
	} else return XDP_PASS;
#endif
	EXCHANGE(__u32, *(__u32 *)data, *(__u32 *)(data + 6));
	EXCHANGE(__u16, *(__u16 *)(data + 4), *(__u16 *)(data + 10));
	return XDP_TX;
}
