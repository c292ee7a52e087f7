/* How the twins that count and balance walk a packet: Ethernet, two VLAN tags, IPv4, IPv6 with eight extension headers. */
#include "twin.h"
/* Bytes of the packet: with -DFRAGS those of all its buffers. */
#ifdef FRAGS
#define LENGTH(ctx, data, end) bpf_xdp_get_buff_len(ctx)
#else
#define LENGTH(ctx, data, end) ((end) - (data))
#endif
struct vlan { __be16 tci, type; };
struct flow_key { __u8 src[16], dst[16]; __be16 src_port, dst_port; __u16 vlan; __u8 protocol, version; };
struct fragment { __u8 next, reserved; __be16 offset; __be32 id; };

/* The type behind the tags, and where it begins; 0 for a short frame. */
static inline __be16 walk_tags(void **at, void *end, __u16 *id)
{
	struct ethhdr *eth = *at;
	if ((void *)(eth + 1) > end) return 0;
	__be16 type = eth->h_proto;
	*at = eth + 1;
	*id = 0;
#pragma unroll
	for (int i = 0; i < 2; i++) {
		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD)) break;
		struct vlan *tag = *at;
		if ((void *)(tag + 1) > end) return 0;
		if (i == 0) *id = bpf_ntohs(tag->tci) & 0xfff;
		type = tag->type;
		*at = tag + 1;
	}
	return type;
}

/* The protocol behind IPv6 extension headers; below 0 when it is not known. */
static inline int walk_extensions(void **at, void *end, __u8 next, int *is_fragment)
{
	*is_fragment = 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i <= 8; i++) {
		__u8 *header = *at;
		if (next == 44) {
			struct fragment *fragment = *at;
			if ((void *)(fragment + 1) > end || i == 8) return -1;
			next = fragment->next;
			*at = fragment + 1;
			if (fragment->offset & bpf_htons(0xfff9)) {
				*is_fragment = 1;
				return next;
			}
		} else if (next == 51) {
			if ((void *)(header + 8) > end || i == 8) return -1;
			next = header[0];
			*at = header + (header[1] + 2) * 4;
		} else if (next == 0 || next == 43 || next == 60) {
			if ((void *)(header + 8) > end || i == 8) return -1;
			next = header[0];
			*at = header + (header[1] + 1) * 8;
		} else return next;
	}
	return -1;
}

/* An IPv4 address as ::ffff:a.b.c.d. */
static inline void map_address(__u8 *to, __be32 address)
{
	__u32 *words = (__u32 *)to;
	words[0] = words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = address;
}
