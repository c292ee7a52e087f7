#include "twin.h"
MAP(xsks_map, BPF_MAP_TYPE_DEVMAP, __u32, __u32, 1);
SEC("xdp") int program(struct xdp_md *ctx) { return bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS); }
