#include "walk.h"
/* Packets and bytes by flow in one table; what belongs to no flow by CPU. */
struct flow { __u64 packets, bytes, dropped, first_seen, last_seen; };
struct count { __u64 packets, bytes; };
MAP(flows, BPF_MAP_TYPE_HASH, struct flow_key, struct flow, ENTRIES);
MAP(no_flow, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct count, 3);
static inline int add(struct flow_key *key, __u64 length, __u64 now)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, key);
	if (!flow) return 0;
	__sync_fetch_and_add(&flow->packets, 1);
	__sync_fetch_and_add(&flow->bytes, length);
	flow->last_seen = now;
	return 1;
}
SEC("xdp") int program(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end, *at = data;
	__u64 length = LENGTH(ctx, data, end);
	__u32 rest = 2;
	struct flow_key key;
	int is_fragment, protocol;
	__be16 type = walk_tags(&at, end, &key.vlan);
	if (type == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = at;
		if ((void *)(ip + 1) > end) goto count;
		if (ip->version != 4 || ip->ihl < 5) goto count;
		key.version = 4;
		map_address(key.src, ip->saddr);
		map_address(key.dst, ip->daddr);
		protocol = ip->protocol;
		is_fragment = ip->frag_off & bpf_htons(0x3fff);
		at += ip->ihl * 4;
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = at;
		if ((void *)(ip + 1) > end || ip->version != 6) goto count;
		key.version = 6;
		__builtin_memcpy(key.src, &ip->saddr, 32);
		at = ip + 1;
		protocol = walk_extensions(&at, end, ip->nexthdr, &is_fragment);
		if (protocol < 0) goto count;
	} else {
		if (type) rest = 1;
		goto count;
	}
	key.protocol = protocol;
	key.src_port = key.dst_port = 0;
	if ((protocol == IPPROTO_TCP || protocol == IPPROTO_UDP) && !is_fragment) {
		struct udphdr *ports = at;
		if ((void *)ports + 4 > end) goto count;
		key.src_port = ports->source;
		key.dst_port = ports->dest;
	}
	__u64 now = bpf_ktime_get_ns();
	if (add(&key, length, now)) return XDP_PASS;
	struct flow flow = { .packets = 1, .bytes = length, .first_seen = now, .last_seen = now };
	if (bpf_map_update_elem(&flows, &key, &flow, BPF_NOEXIST) == 0) return XDP_PASS;
	if (add(&key, length, now)) return XDP_PASS;
	rest = 0;
count:;
	struct count *count = bpf_map_lookup_elem(&no_flow, &rest);
	if (!count) return XDP_PASS;
	count->packets++;
	count->bytes += length;
	return XDP_PASS;
}
