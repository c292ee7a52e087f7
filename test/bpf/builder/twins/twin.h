/* What the C twins share: no header of libbpf is needed to compare instructions. */
#include <linux/bpf.h>
#define ARPHRD_ETHER 1
#define ARPOP_REQUEST 1
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include <linux/tcp.h>
#define SEC(name) __attribute__((section(name), used))
#define inline __attribute__((always_inline)) inline
#define bpf_htons(x) __builtin_bswap16(x)
#define bpf_ntohs(x) __builtin_bswap16(x)
#define bpf_htonl(x) __builtin_bswap32(x)
static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
static __u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static __u32 (*bpf_get_prandom_u32)(void) = (void *)7;
static long (*bpf_redirect_map)(void *map, __u64 key, __u64 flags) = (void *)51;
static void *(*bpf_ringbuf_reserve)(void *ring, __u64 size, __u64 flags) = (void *)131;
static void (*bpf_ringbuf_submit)(void *data, __u64 flags) = (void *)132;
static __u64 (*bpf_xdp_get_buff_len)(struct xdp_md *ctx) = (void *)188;
static long (*bpf_xdp_load_bytes)(struct xdp_md *ctx, __u32 offset, void *to, __u32 length) = (void *)189;
struct icmphdr { __u8 type, code; __be16 checksum, id, sequence; };
#define MAP(name, kind, key_type, value_type, entries)                                                        \
	struct {                                                                                              \
		int (*type)[kind];                                                                            \
		key_type *key;                                                                                \
		value_type *value;                                                                            \
		int (*max_entries)[entries];                                                                  \
	} name SEC(".maps")
