// Functions and variables of the kernel, some of them not there.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define core __attribute__((preserve_access_index))

struct xdp_rxq_info___k { struct net_device___k *dev; __u32 queue_index; } core;
struct net_device___k { int ifindex; unsigned int mtu; } core;
struct xdp_buff___k { struct xdp_rxq_info___k *rxq; __u32 frame_sz; } core;

extern void *bpf_cast_to_kern_ctx(void *) __ksym;
extern void bpf_no_such_kfunc(void *) __ksym __weak;
extern void bpf_rcu_read_lock(void) __ksym __weak;
extern void bpf_rcu_read_unlock(void) __ksym __weak;
extern const int no_such_variable __ksym __weak;

__u32 ifindex, frame_size, has_lock, has_other, has_variable;

SEC("xdp") int uses_kernel(struct xdp_md *ctx)
{
	struct xdp_buff___k *kernel = bpf_cast_to_kern_ctx(ctx);

	ifindex = kernel->rxq->dev->ifindex;
	frame_size = kernel->frame_sz;
	if (&bpf_no_such_kfunc) {
		has_other = 1;
		bpf_no_such_kfunc(ctx);
	}
	if (&bpf_rcu_read_lock) {
		has_lock = 1;
		bpf_rcu_read_lock();
		bpf_rcu_read_unlock();
	}
	if (&no_such_variable)
		has_variable = 1;
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
