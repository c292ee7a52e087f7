#include "walk.h"
/* The target with the number of the flow's hash: COUNT sockets a queue, devices (-DDEVICES) or processors (-DCPUS). */
#ifndef QUEUES
#define QUEUES 1
#endif
#ifdef DEVICES
MAP(devices, BPF_MAP_TYPE_DEVMAP, __u32, __u32, COUNT);
#elif defined(CPUS)
MAP(cpus, BPF_MAP_TYPE_CPUMAP, __u32, __u32, CPUS);
MAP(chosen_cpus, BPF_MAP_TYPE_ARRAY, __u32, __u32, COUNT);
#else
/* Of devices, so that a test run can redirect to it. */
MAP(xsks_map, BPF_MAP_TYPE_DEVMAP, __u32, __u32, COUNT * QUEUES);
#endif
static inline __u64 mix(__u64 value)
{
	value *= 0x9e3779b97f4a7c15ull;
	return value ^ value >> 32;
}
static inline __u64 hash_end(__u8 *address, __be16 port)
{
	__u64 *words = (__u64 *)address, hash = mix(mix(words[0]) ^ words[1]);
#ifdef BY_ADDRESSES
	return hash;
#else
	return mix(hash ^ bpf_ntohs(port));
#endif
}
SEC("xdp") int program(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end, *at = data;
	struct flow_key key __attribute__((aligned(8)));
	int is_fragment, protocol;
	__be16 type = walk_tags(&at, end, &key.vlan);
	if (type == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = at;
		if ((void *)(ip + 1) > end) return XDP_PASS;
		if (ip->version != 4 || ip->ihl < 5) return XDP_PASS;
		map_address(key.src, ip->saddr);
		map_address(key.dst, ip->daddr);
		protocol = ip->protocol;
		is_fragment = ip->frag_off & bpf_htons(0x3fff);
		at += ip->ihl * 4;
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = at;
		if ((void *)(ip + 1) > end || ip->version != 6) return XDP_PASS;
		at = ip + 1;
		if (ip->nexthdr == IPPROTO_ICMPV6 && ip->hop_limit == 255) {
			struct icmphdr *icmp = at;
			if ((void *)(icmp + 1) > end) return XDP_PASS;
			if (icmp->type >= 133 && icmp->type <= 136) return XDP_PASS;
		}
		__builtin_memcpy(key.src, &ip->saddr, 32);
		protocol = walk_extensions(&at, end, ip->nexthdr, &is_fragment);
		if (protocol < 0) return XDP_PASS;
	} else return XDP_PASS;
	key.src_port = key.dst_port = 0;
	if ((protocol == IPPROTO_TCP || protocol == IPPROTO_UDP) && !is_fragment) {
		struct udphdr *ports = at;
		if ((void *)ports + 4 > end) return XDP_PASS;
		key.src_port = ports->source;
		key.dst_port = ports->dest;
	}
	__u64 src = hash_end(key.src, key.src_port), dst = hash_end(key.dst, key.dst_port);
#ifndef SYMMETRIC
	src *= 3;
#endif
	__u32 number = (mix(src + dst) >> 32) * COUNT >> 32;
#ifdef DEVICES
	return bpf_redirect_map(&devices, number, XDP_PASS);
#elif defined(CPUS)
	__u32 *cpu = bpf_map_lookup_elem(&chosen_cpus, &number);
	if (!cpu) return XDP_PASS;
	return bpf_redirect_map(&cpus, *cpu, XDP_PASS);
#else
	return bpf_redirect_map(&xsks_map, number * QUEUES + ctx->rx_queue_index, XDP_PASS);
#endif
}
