// Maps as older objects declare them, which needs no BTF.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct bpf_map_def { unsigned int type, key_size, value_size, max_entries, map_flags; };

struct bpf_map_def SEC("maps") totals = {
	.type = BPF_MAP_TYPE_PERCPU_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 2,
};
struct bpf_map_def SEC("maps") xsks_map = {
	.type = BPF_MAP_TYPE_XSKMAP, .key_size = 4, .value_size = 4, .max_entries = 8,
};
struct bpf_map_def SEC("maps") by_length = {
	.type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 8, .max_entries = 32, .map_flags = BPF_F_NO_PREALLOC,
};

SEC("xdp") int legacy(struct xdp_md *ctx)
{
	__u32 zero = 0, length = ctx->data_end - ctx->data;
	__u64 *total = bpf_map_lookup_elem(&totals, &zero), first = 1, *seen;

	if (total)
		*total += 1;
	seen = bpf_map_lookup_elem(&by_length, &length);
	if (seen)
		__sync_fetch_and_add(seen, 1);
	else
		bpf_map_update_elem(&by_length, &length, &first, BPF_NOEXIST);
	return bpf_redirect_map(&xsks_map, 0, XDP_DROP);
}

char _license[] SEC("license") = "GPL";
