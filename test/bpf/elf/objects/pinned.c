// A map that is shared through a pin of its name.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#ifndef VALUE
#define VALUE __u32
#endif

#ifndef ENTRIES
#define ENTRIES 1
#endif
#ifndef FLAGS
#define FLAGS 0
#endif

#ifdef KINDS
/* Of kinds whose size or flags are not only what is written here. */
#define PINNED(kind, entries) \
	__uint(type, BPF_MAP_TYPE_##kind); \
	__uint(max_entries, entries); \
	__uint(pinning, LIBBPF_PIN_BY_NAME)
struct { PINNED(RINGBUF, 100); } ring SEC(".maps");
struct { PINNED(PERF_EVENT_ARRAY, 0); __uint(key_size, 4); __uint(value_size, 4); } perf SEC(".maps");
struct { PINNED(DEVMAP, 4); __uint(key_size, 4); __uint(value_size, 8); } devices SEC(".maps");
struct { PINNED(DEVMAP_HASH, 4); __uint(key_size, 4); __uint(value_size, 4); } hashed SEC(".maps");
struct { PINNED(CPUMAP, 2); __uint(key_size, 4); __uint(value_size, 8); } cpus SEC(".maps");
struct { PINNED(LPM_TRIE, 4); __uint(map_flags, BPF_F_NO_PREALLOC); __uint(key_size, 8); __uint(value_size, 4); } trie SEC(".maps");
struct { PINNED(PERCPU_HASH, 4); __uint(key_size, 4); __uint(value_size, 3); } percpu SEC(".maps");
struct { PINNED(BLOOM_FILTER, 4); __uint(map_extra, 3); __uint(value_size, 4); } bloom SEC(".maps");
#endif

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ENTRIES);
	__uint(map_flags, FLAGS);
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
