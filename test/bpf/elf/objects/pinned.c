// A map that is shared through a pin of its name.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#ifndef VALUE
#define VALUE __u32
#endif

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, VALUE);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} shared SEC(".maps");

SEC("xdp") int pinned(struct xdp_md *ctx)
{
	__u32 zero = 0;
	VALUE *value = bpf_map_lookup_elem(&shared, &zero);

	if (value)
		__sync_fetch_and_add(value, 1);
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
