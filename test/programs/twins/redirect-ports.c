#include "twin.h"
/* UDP and TCP to listed endpoints go to the queue's socket: no options, fragments, extension headers, tags. */
struct key { __u32 address[4]; __be16 port; __u8 protocol, zero; };
MAP(xsks_map, BPF_MAP_TYPE_DEVMAP, __u32, __u32, 1);
MAP(endpoints, BPF_MAP_TYPE_HASH, struct key, __u8, 65536);
SEC("xdp") int program(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	__be16 *ports;
	struct key key;
	if ((void *)(eth + 1) > end) return XDP_PASS;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (void *)(eth + 1);
		if ((void *)(ip + 1) > end || *(__u8 *)ip != 0x45) return XDP_PASS;
		if (ip->frag_off & bpf_htons(0x3fff)) return XDP_PASS;
		if (ip->protocol != IPPROTO_UDP && ip->protocol != IPPROTO_TCP) return XDP_PASS;
		__u32 from = __builtin_bswap32(ip->saddr), net = from & 0xff000000;
		if (net == 0 || net == 0x7f000000 || from >= 0xe0000000) return XDP_PASS;
		ports = (void *)(ip + 1);
		if ((void *)(ports + 2) > end) return XDP_PASS;
		key = (struct key){ { 0, 0, bpf_htonl(0xffff), ip->daddr }, ports[1], ip->protocol, 0 };
	} else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = (void *)(eth + 1);
		if ((void *)(ip + 1) > end || ip->version != 6) return XDP_PASS;
		if (ip->nexthdr != IPPROTO_UDP && ip->nexthdr != IPPROTO_TCP) return XDP_PASS;
		if ((ip->saddr.s6_addr32[0] == 0 && ip->saddr.s6_addr32[1] == 0) || ip->saddr.s6_addr[0] == 0xff) return XDP_PASS;
		ports = (void *)(ip + 1);
		if ((void *)(ports + 2) > end) return XDP_PASS;
		__builtin_memcpy(key.address, &ip->daddr, 16);
		key.port = ports[1];
		key.protocol = ip->nexthdr;
		key.zero = 0;
	} else return XDP_PASS;
	if (!bpf_map_lookup_elem(&endpoints, &key)) {
		__builtin_memset(key.address, 0, 16);
		if (!bpf_map_lookup_elem(&endpoints, &key)) return XDP_PASS;
	}
	return bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS);
}
