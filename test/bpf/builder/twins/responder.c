#include "twin.h"
MAP(xsks_map, BPF_MAP_TYPE_DEVMAP, __u32, __u32, 1);
struct arp { __be16 hrd, pro, len, op; __u8 sha[6]; __be32 sip; __u8 tha[6]; __be32 tip; } __attribute__((packed));
struct key { __u32 word[4]; };
MAP(addresses, BPF_MAP_TYPE_HASH, struct key, __u8, 1024);
SEC("xdp") int program(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct key key;
	if ((void *)(eth + 1) > end) return XDP_PASS;
	if (eth->h_proto == bpf_htons(ETH_P_ARP)) {
		struct arp *arp = (void *)(eth + 1);
		if ((void *)(arp + 1) > end) return XDP_PASS;
		if (arp->hrd != bpf_htons(ARPHRD_ETHER) || arp->pro != bpf_htons(ETH_P_IP)) return XDP_PASS;
		if (arp->len != bpf_htons(0x0604) || arp->op != bpf_htons(ARPOP_REQUEST)) return XDP_PASS;
		if (arp->sip == arp->tip) return XDP_PASS;
		key = (struct key){ { 0, 0, bpf_htonl(0xffff), arp->tip } };
	} else if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (void *)(eth + 1);
		if ((void *)(ip + 1) > end || *(__u8 *)ip != 0x45) return XDP_PASS;
		if (ip->frag_off & bpf_htons(0x3fff)) return XDP_PASS;
		if (ip->protocol != IPPROTO_ICMP) return XDP_PASS;
		struct icmphdr *icmp = (void *)(ip + 1);
		if ((void *)(icmp + 1) > end || icmp->type != 8 || icmp->code != 0) return XDP_PASS;
		key = (struct key){ { 0, 0, bpf_htonl(0xffff), ip->daddr } };
	} else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = (void *)(eth + 1);
		if ((void *)(ip + 1) > end || ip->version != 6) return XDP_PASS;
		if (ip->nexthdr != IPPROTO_ICMPV6) return XDP_PASS;
		struct icmphdr *icmp = (void *)(ip + 1);
		if ((void *)(icmp + 1) > end || icmp->code != 0) return XDP_PASS;
		if (icmp->type == 128) {
			key = *(struct key *)&ip->daddr;
		} else if (icmp->type == 135) {
			if ((void *)(icmp + 1) + 16 > end) return XDP_PASS;
			key = *(struct key *)(icmp + 1);
		} else return XDP_PASS;
	} else return XDP_PASS;
	if (!bpf_map_lookup_elem(&addresses, &key)) return XDP_PASS;
	return bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS);
}
