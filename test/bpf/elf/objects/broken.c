// One thing at a time that cannot be loaded, chosen by a macro.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#ifdef KFUNC
extern int bpf_no_such_kfunc(void) __ksym;
#define RESULT bpf_no_such_kfunc()
#endif
#ifdef WEAK
extern int bpf_no_such_kfunc(void) __ksym __weak;
#define RESULT bpf_no_such_kfunc()
#endif
#ifdef KCONFIG
extern int LINUX_KERNEL_VERSION __kconfig;
#define RESULT LINUX_KERNEL_VERSION
#endif
#ifdef UNDEFINED
int elsewhere(int);
#define RESULT elsewhere(1)
#endif
#ifdef MEMSET
void *memset(void *, int, unsigned long);
char big[8192];
#define RESULT (memset(big, ctx->rx_queue_index, sizeof(big)) != 0)
#endif
#ifdef POINTERS
static const char one[] = "one", two[] = "two";
const char *volatile names[2] = { one, two };
#define RESULT names[ctx->rx_queue_index & 1][0]
#endif
#ifdef UNKNOWN_FIELD
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(no_such_field, 1);
} map SEC(".maps");
#endif
#ifndef RESULT
#define RESULT XDP_PASS
#endif

static __attribute__((noinline)) int reads(struct xdp_md *ctx)
{
#ifdef BOUNDS
	return ((volatile __u8 *)ctx)[200];
#else
	return RESULT;
#endif
}

SEC("xdp") int broken(struct xdp_md *ctx)
{
	return reads(ctx) ? XDP_PASS : XDP_DROP;
}

char _license[] SEC("license") = "GPL";
