/* How the twins of the access list, the reflector and sampling find what is behind VLAN tags, and what discovers neighbours. */
#include "twin.h"
struct vlan { __be16 tci, type; };

/* Steps over up to two tags: `at` is behind the last, `type` what follows. 0 for a short frame. */
static inline int step_over_tags(struct ethhdr *eth, void **at, void *end, __be16 *type)
{
	*type = eth->h_proto;
	*at = eth + 1;
#pragma unroll
	for (int i = 0; i < 2; i++) {
		if (*type != bpf_htons(ETH_P_8021Q) && *type != bpf_htons(ETH_P_8021AD)) break;
		struct vlan *tag = *at;
		if ((void *)(tag + 1) > end) return 0;
		*type = tag->type;
		*at = tag + 1;
	}
	return 1;
}

/* 1 for ARP and neighbour discovery, -1 for IPv6 cut short. */
static inline int discovers(__be16 type, void *at, void *end)
{
	if (type == bpf_htons(ETH_P_ARP)) return 1;
	if (type != bpf_htons(ETH_P_IPV6)) return 0;
	struct ipv6hdr *ip = at;
	if ((void *)(ip + 1) > end || ip->version != 6) return -1;
	if (ip->nexthdr != IPPROTO_ICMPV6 || ip->hop_limit != 255) return 0;
	struct icmphdr *icmp = (void *)(ip + 1);
	if ((void *)(icmp + 1) > end) return -1;
	return icmp->type >= 133 && icmp->type <= 136;
}
