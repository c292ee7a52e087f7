// CO-RE: fields, types and enums of the running kernel, from definitions that are unlike its own.
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define core __attribute__((preserve_access_index))

struct list_head { struct list_head *next, *prev; } core;
// Members in another order, most left out.
struct net_device { unsigned int mtu; int ifindex; char name[16]; } core;
struct net_device___flavoured { int ifindex; } core;
struct net_device___wrong { long no_such_member; } core;
struct sk_buff { unsigned int len; unsigned char *data; __u8 ip_summed : 2; __u8 pkt_type : 3; } core;
struct task_struct { int pid; struct list_head tasks; char comm[16]; } core;
struct no_such_struct { int x; } core;
struct xdp_buff { void *data; void *data_end; unsigned int frame_sz; } core;
enum xdp_action___core { XDP_PASS___core = 99, XDP_NO_SUCH = 98 };
struct iphdr { unsigned int saddr; } core;
union bpf_attr___some { __u32 map_type; } core;

struct {
	__u32 ifindex_offset, ifindex_size, name_offset, flavoured_offset, missing, present, ip_summed_size;
	__u32 sk_buff_size, absent_size, type_there, type_absent, enum_value, enum_there, enum_absent;
	__u32 pid_signed, len_signed, next_offset, comm_offset, type_id, local_id, lshift, rshift, reached, saddr;
	__u32 anonymous;
} results;

SEC("xdp") int measure(struct xdp_md *ctx)
{
	struct task_struct *task = 0;
	struct sk_buff *skb = 0;

	results.ifindex_offset = bpf_core_field_offset(struct net_device, ifindex);
	results.ifindex_size = bpf_core_field_size(struct net_device, ifindex);
	results.name_offset = bpf_core_field_offset(struct net_device, name);
	results.flavoured_offset = bpf_core_field_offset(struct net_device___flavoured, ifindex);
	results.missing = bpf_core_field_exists(struct net_device___wrong, no_such_member);
	results.present = bpf_core_field_exists(struct net_device, mtu);
	results.sk_buff_size = bpf_core_type_size(struct sk_buff);
	results.absent_size = bpf_core_type_size(struct no_such_struct);
	results.type_there = bpf_core_type_exists(struct task_struct);
	results.type_absent = bpf_core_type_exists(struct no_such_struct);
	results.enum_value = bpf_core_enum_value(enum xdp_action___core, XDP_PASS___core);
	results.enum_there = bpf_core_enum_value_exists(enum xdp_action___core, XDP_PASS___core);
	results.enum_absent = bpf_core_enum_value_exists(enum xdp_action___core, XDP_NO_SUCH);
	results.pid_signed = __builtin_preserve_field_info(task->pid, BPF_FIELD_SIGNED);
	results.len_signed = __builtin_preserve_field_info(skb->len, BPF_FIELD_SIGNED);
	results.next_offset = bpf_core_field_offset(struct task_struct, tasks.prev);
	results.comm_offset = __builtin_preserve_field_info(task->comm[3], BPF_FIELD_BYTE_OFFSET);
	results.type_id = bpf_core_type_id_kernel(struct task_struct);
	results.local_id = bpf_core_type_id_local(struct task_struct);
	results.lshift = __builtin_preserve_field_info(skb->pkt_type, BPF_FIELD_LSHIFT_U64);
	results.rshift = __builtin_preserve_field_info(skb->pkt_type, BPF_FIELD_RSHIFT_U64);
	results.ip_summed_size = __builtin_preserve_field_info(skb->ip_summed, BPF_FIELD_BYTE_SIZE);
	results.saddr = bpf_core_field_offset(struct iphdr, saddr);
	results.anonymous = bpf_core_field_exists(union bpf_attr___some, map_type);
	// Not reached: the instruction is poisoned, and the verifier never gets there.
	if (bpf_core_field_exists(struct net_device___wrong, no_such_member))
		results.reached = bpf_core_field_offset(struct net_device___wrong, no_such_member);
	return XDP_PASS;
}

#ifndef LIBBPF
SEC("?xdp") int needs_missing(struct xdp_md *ctx)
{
	return bpf_core_field_offset(struct net_device___wrong, no_such_member);
}
#endif

char _license[] SEC("license") = "GPL";
