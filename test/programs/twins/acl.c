#include "tags.h"
/* Allows and denies by hardware address, network, protocol and port; OTHERWISE and JUDGE are set when it is compiled. */
enum { ALLOW = 1, DENY = 2 };
struct mac_key { __u8 mac[6]; __u16 side; };
struct network_key { __u32 prefix, table; __be32 address[4]; };
MAP(acl_macs, BPF_MAP_TYPE_HASH, struct mac_key, __u8, 16384);
struct {
	int (*type)[BPF_MAP_TYPE_LPM_TRIE];
	struct network_key *key;
	__u8 *value;
	int (*max_entries)[1 << 20];
	int (*map_flags)[BPF_F_NO_PREALLOC];
} acl_networks SEC(".maps");
MAP(acl_protocols, BPF_MAP_TYPE_ARRAY, __u32, __u8, 256);
MAP(acl_ports, BPF_MAP_TYPE_ARRAY, __u32, __u8, 65536);

#define JUDGE_BY(rule, shift)                                                                                 \
	do {                                                                                                  \
		__u8 *found = rule;                                                                           \
		if (found) {                                                                                  \
			__u32 bits = *found >> (shift);                                                       \
			if (bits & DENY) return XDP_DROP;                                                     \
			allowed |= bits;                                                                      \
		}                                                                                             \
	} while (0)

SEC("xdp") int program(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end, *at;
	struct ethhdr *eth = data;
	__u32 allowed = 0, protocol;
	__be16 type;
	if ((void *)(eth + 1) > end || !step_over_tags(eth, &at, end, &type)) return XDP_DROP;
#ifndef JUDGE
	int discovery = discovers(type, at, end);
	if (discovery < 0) return XDP_DROP;
	if (discovery) return XDP_PASS;
#endif
	struct mac_key mac;
	__builtin_memcpy(mac.mac, eth->h_source, 6);
	mac.side = 0;
	JUDGE_BY(bpf_map_lookup_elem(&acl_macs, &mac), 0);
	__builtin_memcpy(mac.mac, eth->h_dest, 6);
	mac.side = 1;
	JUDGE_BY(bpf_map_lookup_elem(&acl_macs, &mac), 0);

	struct network_key src = {}, dst = {};
	if (type == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = at;
		if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5) return XDP_DROP;
		src.prefix = dst.prefix = 64;
		dst.table = 1;
		src.address[0] = ip->saddr;
		dst.address[0] = ip->daddr;
		protocol = ip->protocol;
		at = ip->frag_off & bpf_htons(0x1fff) ? 0 : at + ip->ihl * 4;
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = at;
		if ((void *)(ip + 1) > end || ip->version != 6) return XDP_DROP;
		src.prefix = dst.prefix = 160;
		src.table = 2;
		dst.table = 3;
		__builtin_memcpy(src.address, &ip->saddr, 16);
		__builtin_memcpy(dst.address, &ip->daddr, 16);
		protocol = ip->nexthdr;
		at = ip + 1;
#pragma clang loop unroll(disable)
		for (int i = 0; i < 9; i++) {
			if (protocol != 0 && protocol != 43 && protocol != 60 && protocol != 44 && protocol != 51) break;
			__u8 *header = at;
			if (i == 8 || (void *)(header + 8) > end) return XDP_DROP;
			__u32 length = (header[1] + 1) * 8;
			if (protocol == 51) length = (header[1] + 2) * 4;
			if (protocol == 44) {
				length = 8;
				if (*(__be16 *)(header + 2) & bpf_htons(0xfff8)) {
					protocol = header[0];
					at = 0;
					break;
				}
			}
			protocol = header[0];
			at = header + length;
		}
	} else goto conclude;
	JUDGE_BY(bpf_map_lookup_elem(&acl_networks, &src), 0);
	JUDGE_BY(bpf_map_lookup_elem(&acl_networks, &dst), 0);
	JUDGE_BY(bpf_map_lookup_elem(&acl_protocols, &protocol), 0);
	if (at && (protocol == IPPROTO_UDP || protocol == IPPROTO_TCP)) {
		__u32 shift = protocol == IPPROTO_TCP ? 4 : 0, port;
		__be16 *ports = at;
		if ((void *)(ports + 2) > end) return XDP_DROP;
		__be16 dst_port = ports[1];
		port = bpf_ntohs(ports[0]);
		JUDGE_BY(bpf_map_lookup_elem(&acl_ports, &port), shift);
		port = bpf_ntohs(dst_port);
		JUDGE_BY(bpf_map_lookup_elem(&acl_ports, &port), shift + 2);
	}
conclude:
	return allowed & ALLOW ? XDP_PASS : OTHERWISE;
}
