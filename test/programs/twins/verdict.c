#include "twin.h"
/* One verdict for everything: VERDICT. */
SEC("xdp") int program(struct xdp_md *ctx) { return VERDICT; }
