// Maps declared by their types: every kind that XDP programs use, maps of maps, tail calls, shared by a pin.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct flow { __u32 address; __u16 port; __u8 protocol; __u8 pad; };
struct stats { __u64 packets; __u64 bytes; };

#define MAP(kind, entries) __uint(type, BPF_MAP_TYPE_##kind); __uint(max_entries, entries)

struct { MAP(ARRAY, 4); __type(key, __u32); __type(value, struct stats); } counters SEC(".maps");
struct { MAP(PERCPU_ARRAY, 1); __type(key, __u32); __type(value, __u64); } percpu SEC(".maps");
struct { MAP(HASH, 64); __type(key, struct flow); __type(value, struct stats); } flows SEC(".maps");
struct { MAP(LRU_HASH, 64); __type(key, __u32); __type(value, __u32); } recent SEC(".maps");
struct prefix { __u32 length; __u8 data[4]; };
struct { MAP(LPM_TRIE, 8); __uint(map_flags, BPF_F_NO_PREALLOC); __type(key, struct prefix); __uint(value_size, 4); } prefixes SEC(".maps");
struct { MAP(RINGBUF, 100); } events SEC(".maps");
struct { MAP(QUEUE, 8); __uint(key_size, 0); __uint(value_size, 4); } queue SEC(".maps");
struct { MAP(DEVMAP, 8); __uint(key_size, 4); __uint(value_size, sizeof(struct bpf_devmap_val)); } devices SEC(".maps");
struct { MAP(CPUMAP, 2); __type(key, __u32); __type(value, struct bpf_cpumap_val); } cpus SEC(".maps");
struct { MAP(XSKMAP, 64); __type(key, __u32); __type(value, __u32); } xsks_map SEC(".maps");
struct { MAP(PERF_EVENT_ARRAY, 0); __uint(key_size, 4); __uint(value_size, 4); } perf SEC(".maps");
#ifndef LIBBPF
static
#endif
struct { MAP(ARRAY, 1); __type(key, __u32); __type(value, __u32); } private_map SEC(".maps");

struct inner { MAP(ARRAY, 2); __type(key, __u32); __type(value, __u32); } inner_a SEC(".maps"), inner_b SEC(".maps");
struct {
	MAP(ARRAY_OF_MAPS, 3);
	__uint(key_size, 4);
	__array(values, struct inner);
} outer SEC(".maps") = { .values = { [0] = &inner_a, [2] = &inner_b } };
struct {
	MAP(HASH_OF_MAPS, 4);
	__type(key, __u32);
	__array(values, struct inner);
} outer_hash SEC(".maps") = { .values = { [1] = &inner_b } };

SEC("xdp") int tail(struct xdp_md *ctx) { return XDP_TX; }
struct {
	MAP(PROG_ARRAY, 4);
	__uint(key_size, 4);
	__array(values, int (void *));
} jumps SEC(".maps") = { .values = { [3] = (void *)&tail } };

SEC("xdp") int count(struct xdp_md *ctx)
{
	__u32 zero = 0, one = 1;
	struct flow flow = { .address = 0x0100007f, .port = 80, .protocol = 6 };
	struct stats first = { 1, ctx->data_end - ctx->data }, *stats;
	__u64 *mine = bpf_map_lookup_elem(&percpu, &zero);
	__u32 *secret = bpf_map_lookup_elem(&private_map, &zero);

	if (mine)
		*mine += 1;
	if (secret)
		*secret = 41;
	stats = bpf_map_lookup_elem(&counters, &one);
	if (stats) {
		stats->packets++;
		stats->bytes += first.bytes;
	}
	stats = bpf_map_lookup_elem(&flows, &flow);
	if (stats)
		stats->packets++;
	else
		bpf_map_update_elem(&flows, &flow, &first, BPF_ANY);
	bpf_map_update_elem(&recent, &one, &one, BPF_ANY);
	bpf_map_push_elem(&queue, &one, 0);
	bpf_ringbuf_output(&events, &first, sizeof(first), 0);
	return XDP_PASS;
}

SEC("xdp") int nested(struct xdp_md *ctx)
{
	__u32 two = 2, one = 1, *value;
	void *map = bpf_map_lookup_elem(&outer, &two);

	if (!map)
		return XDP_ABORTED;
	value = bpf_map_lookup_elem(map, &one);
	if (!value)
		return XDP_ABORTED;
	*value += 5;
	map = bpf_map_lookup_elem(&outer_hash, &one);
	value = map ? bpf_map_lookup_elem(map, &one) : 0;
	return value && *value == 5 ? XDP_DROP : XDP_ABORTED;
}

SEC("xdp") int jumping(struct xdp_md *ctx)
{
	bpf_tail_call(ctx, &jumps, 3);
	return XDP_ABORTED;
}

SEC("xdp") int redirecting(struct xdp_md *ctx)
{
	__u32 queue_index = ctx->rx_queue_index;

	if (ctx->data_end - ctx->data > 100)
		return bpf_redirect_map(&devices, 0, XDP_DROP);
	if (ctx->data_end - ctx->data > 50)
		return bpf_redirect_map(&cpus, 0, XDP_TX);
	return bpf_redirect_map(&xsks_map, queue_index, XDP_PASS);
}

char _license[] SEC("license") = "Dual BSD/GPL";
