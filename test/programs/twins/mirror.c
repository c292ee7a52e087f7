#include "twin.h"
/* Copies packets into a ring buffer, cut at SNAP bytes. */
#if SNAP > 131070
#define MOST 131070
#else
#define MOST SNAP
#endif
struct record { __u64 time; __u32 length, captured, ifindex, queue; };
struct { int (*type)[BPF_MAP_TYPE_RINGBUF]; int (*max_entries)[RING]; } mirrored SEC(".maps");
MAP(lost, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, 1);
SEC("xdp.frags") int program(struct xdp_md *ctx)
{
	__u32 length = bpf_xdp_get_buff_len(ctx), room, key = 0;
	__u64 captured = length;
	if (captured > MOST) captured = MOST;
	/* Else clang forgets the bound on the copy that it hands to the helper. */
	asm volatile("" : "+r"(captured));
	if (captured == 0) return XDP_PASS;
	/* As one chain of jumps: the verifier wants a known size on each path. */
#if SNAP > 64
	if (captured <= 64) room = 64; else
#endif
#if SNAP > 128
	if (captured <= 128) room = 128; else
#endif
#if SNAP > 256
	if (captured <= 256) room = 256; else
#endif
#if SNAP > 512
	if (captured <= 512) room = 512; else
#endif
#if SNAP > 1024
	if (captured <= 1024) room = 1024; else
#endif
#if SNAP > 1536
	if (captured <= 1536) room = 1536; else
#endif
#if SNAP > 4096
	if (captured <= 4096) room = 4096; else
#endif
#if SNAP > 9216
	if (captured <= 9216) room = 9216; else
#endif
#if SNAP > 16384
	if (captured <= 16384) room = 16384; else
#endif
#if SNAP > 32768
	if (captured <= 32768) room = 32768; else
#endif
#if SNAP > 65600
	if (captured <= 65600) room = 65600; else
#endif
	room = MOST;
	__u64 now = bpf_ktime_get_ns();
	struct record *record = bpf_ringbuf_reserve(&mirrored, room + sizeof(*record), 0);
	if (!record) {
		__u64 *count = bpf_map_lookup_elem(&lost, &key);
		if (count) ++*count;
		return XDP_PASS;
	}
	record->time = now;
	record->length = length;
	record->captured = captured;
	record->ifindex = ctx->ingress_ifindex;
	record->queue = ctx->rx_queue_index;
#if MOST > 65535
	if (captured > 65535) {
		bpf_xdp_load_bytes(ctx, 0, record + 1, 65535);
		bpf_xdp_load_bytes(ctx, 65535, (char *)(record + 1) + 65535, captured - 65535);
	} else
#endif
	bpf_xdp_load_bytes(ctx, 0, record + 1, captured);
	bpf_ringbuf_submit(record, 0);
	return XDP_PASS;
}
