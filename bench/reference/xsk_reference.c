// The yardstick: the benchmark's jobs over libxdp's rings, as a C programmer would write them.
//
//   xsk_reference rxdrop|udprecv|txpush|l2fwd|udpecho|udpanswer -i IF [-q QUEUE] [-m native|skb] [-f FRAMES] [-r RING] [-b BATCH]
//                 [-s BYTES] [-n COUNT] [-x MAP] [-B] [-W]
//   xsk_reference forward -i IF -o IF [...]
//
// rxdrop receives and forgets; l2fwd swaps the MAC addresses and sends back; udpecho swaps the addresses and ports of UDP
// over IPv4 too; udprecv and udpanswer do what a UDP server has to, and the kernel does not for it: they look at the headers,
// verify both checksums, and udpanswer makes new headers with new checksums; txpush sends as fast as it goes; forward sends by the other interface, both ways, FRAMES for each in one
// UMEM. With -x the socket goes into the XSKMAP of this id, whose program somebody else has attached.
// Prints "ready" when packets can come. SIGUSR2 starts the measurement anew; SIGTERM, or COUNT packets, end it:
// then one JSON line says what happened since. While nothing comes it sleeps in poll(); with -B it busy-polls.
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <xdp/xsk.h>

#define FRAME_SIZE 2048
#define MAX_BATCH 1024
#define UDP_PORT 9

#ifndef SO_PREFER_BUSY_POLL
#define SO_PREFER_BUSY_POLL 69
#define SO_BUSY_POLL_BUDGET 70
#endif
#ifndef XDP_MAX_TX_SKB_BUDGET // Linux 6.17
#define XDP_MAX_TX_SKB_BUDGET 9
#endif

struct settings {
	const char *job, *interface, *other;
	unsigned queue, frames, ring, batch, size, map;
	unsigned long long count;
	bool skb, busy, no_wakeup;
};

// The frames of all ports, and those that nobody uses, as a stack.
struct memory {
	struct xsk_umem *umem;
	unsigned char *area;
	__u64 *free;
	unsigned frames, free_count;
};

struct port {
	const char *interface;
	struct xsk_socket *socket;
	struct xsk_ring_prod fill, tx;
	struct xsk_ring_cons completion, rx;
	int fd;
	// Frames the kernel has for receiving and for sending.
	unsigned lent_rx, lent_tx, fill_target;
};

struct counters {
	unsigned long long packets, bytes, batches, wakeups, dropped_tx, damaged;
};

// What the UDP server answers to.
static unsigned char server_mac[6];

static struct memory memory;
static struct counters total;
static volatile sig_atomic_t ending, marking;

static void on_end(int signal) { (void)signal; ending = 1; }
static void on_mark(int signal) { (void)signal; marking = 1; }

static void die(const char *what, int error)
{
	fprintf(stderr, "xsk_reference: %s: %s\n", what, strerror(error));
	exit(1);
}

/* ------------------------------------------------------------------ set-up */

// r2 = queue; redirect_map(xsks, r2, XDP_PASS): what node-xdp's default program does too.
static int load_redirect(int map)
{
	const struct bpf_insn code[] = {
		{ .code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = BPF_REG_2, .src_reg = BPF_REG_1,
		  .off = offsetof(struct xdp_md, rx_queue_index) },
		{ .code = BPF_LD | BPF_IMM | BPF_DW, .dst_reg = BPF_REG_1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = map },
		{ 0 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_3, .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect_map },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "xsk_reference", "Dual MIT/GPL", code,
			       sizeof code / sizeof code[0], NULL);
	if (fd < 0)
		die("loading the program", errno);
	return fd;
}

static void attach(const struct settings *s, struct port *p)
{
	int map = s->map ? bpf_map_get_fd_by_id(s->map)
			 : bpf_map_create(BPF_MAP_TYPE_XSKMAP, "xsks", sizeof(int), sizeof(int), s->queue + 1, NULL);
	LIBBPF_OPTS(bpf_link_create_opts, options,
		    .flags = s->skb ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE);
	if (map < 0)
		die("making the socket map", errno);
	if (bpf_map_update_elem(map, &s->queue, &p->fd, BPF_ANY))
		die("putting the socket in its map", errno);
	if (s->map)
		return;
	// The link goes with the process.
	if (bpf_link_create(load_redirect(map), (int)if_nametoindex(p->interface), BPF_XDP, &options) < 0)
		die("attaching the program", errno);
}

// The first port registers the memory, the other one shares it.
static int open_port(const struct settings *s, struct port *p)
{
	const bool first = memory.umem == NULL;
	const struct xsk_umem_config umem = {
		.fill_size = s->ring, .comp_size = s->ring, .frame_size = FRAME_SIZE,
	};
	const struct xsk_socket_config config = {
		.rx_size = s->ring, .tx_size = s->ring,
		.libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
		.bind_flags = XDP_COPY | (s->no_wakeup ? 0 : XDP_USE_NEED_WAKEUP),
	};
	int error = first ? xsk_umem__create(&memory.umem, memory.area, (__u64)memory.frames * FRAME_SIZE, &p->fill,
					     &p->completion, &umem)
			  : 0;
	if (error)
		die("xsk_umem__create", -error);
	error = first ? xsk_socket__create(&p->socket, p->interface, s->queue, memory.umem, &p->rx, &p->tx, &config)
		      : xsk_socket__create_shared(&p->socket, p->interface, s->queue, memory.umem, &p->rx, &p->tx,
						  &p->fill, &p->completion, &config);
	if (error && first) {
		xsk_umem__delete(memory.umem);
		memory.umem = NULL;
	}
	return -error;
}

static void read_mac(const struct settings *s)
{
	struct ifreq request = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	strncpy(request.ifr_name, s->interface, sizeof request.ifr_name - 1);
	if (fd < 0 || ioctl(fd, SIOCGIFHWADDR, &request))
		die("reading the hardware address", errno);
	memcpy(server_mac, request.ifr_hwaddr.sa_data, 6);
	close(fd);
}

static void set_up_memory(unsigned frames)
{
	memory.frames = frames;
	memory.area = mmap(NULL, (size_t)frames * FRAME_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	memory.free = calloc(frames, sizeof *memory.free);
	if (memory.area == MAP_FAILED || !memory.free)
		die("memory for the frames", errno);
	for (unsigned i = 0; i < frames; i++)
		memory.free[i] = (__u64)(frames - 1 - i) * FRAME_SIZE;
	memory.free_count = frames;
}

static void set_up(const struct settings *s, struct port *p)
{
	const int on = 1, microseconds = 20, budget = 64, tx_budget = s->ring < 512 ? (int)s->ring : 512;
	unsigned spare = s->ring < s->frames / 2 ? s->ring : s->frames / 2;
	int error;

	p->fill_target = s->frames - spare < s->ring ? s->frames - spare : s->ring;

	// The kernel lets go of a queue some time after its last socket was closed.
	for (int tries = 0; (error = open_port(s, p)) == EBUSY && tries < 100; tries++)
		usleep(10000);
	if (error)
		die("xsk_socket__create", error);
	p->fd = xsk_socket__fd(p->socket);
	if (s->busy) {
		if (setsockopt(p->fd, SOL_SOCKET, SO_PREFER_BUSY_POLL, &on, sizeof on) ||
		    setsockopt(p->fd, SOL_SOCKET, SO_BUSY_POLL, &microseconds, sizeof microseconds) ||
		    setsockopt(p->fd, SOL_SOCKET, SO_BUSY_POLL_BUDGET, &budget, sizeof budget))
			die("busy polling", errno);
	}
	// Older kernels do not know it and send 32 packets a call.
	(void)!setsockopt(p->fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &tx_budget, sizeof tx_budget);
}

/* ------------------------------------------------------------------ packets */

static inline void release(__u64 address)
{
	memory.free[memory.free_count++] = address & ~(__u64)(FRAME_SIZE - 1);
}

static inline void refill(struct port *p)
{
	unsigned wanted = p->fill_target - p->lent_rx;
	__u32 at;

	if (wanted > memory.free_count)
		wanted = memory.free_count;
	if (wanted > 0 && xsk_ring_prod__reserve(&p->fill, wanted, &at) == wanted) {
		for (unsigned i = 0; i < wanted; i++)
			*xsk_ring_prod__fill_addr(&p->fill, at++) = memory.free[--memory.free_count];
		xsk_ring_prod__submit(&p->fill, wanted);
		p->lent_rx += wanted;
	}
	if (xsk_ring_prod__needs_wakeup(&p->fill)) {
		total.wakeups++;
		recvfrom(p->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
	}
}

static inline void reap(struct port *p, unsigned ring)
{
	__u32 at;
	unsigned count = xsk_ring_cons__peek(&p->completion, ring, &at);

	if (count == 0)
		return;
	for (unsigned i = 0; i < count; i++)
		release(*xsk_ring_cons__comp_addr(&p->completion, at++));
	xsk_ring_cons__release(&p->completion, count);
	p->lent_tx -= count;
}

// Hands over what was submitted and takes back what was sent.
static inline void flush(const struct settings *s, struct port *p)
{
	if (p->lent_tx == 0)
		return;
	if (s->no_wakeup || xsk_ring_prod__needs_wakeup(&p->tx)) {
		total.wakeups++;
		if (sendto(p->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 && errno != EAGAIN && errno != EBUSY &&
		    errno != ENOBUFS && errno != ENETDOWN)
			die("sendto", errno);
	}
	reap(p, s->ring);
}

static inline void swap_macs(unsigned char *packet)
{
	unsigned char destination[6];

	memcpy(destination, packet, 6);
	memcpy(packet, packet + 6, 6);
	memcpy(packet + 6, destination, 6);
}

static inline void swap(unsigned char *a, unsigned char *b, unsigned count)
{
	unsigned char kept[6];

	memcpy(kept, a, count);
	memcpy(a, b, count);
	memcpy(b, kept, count);
}

// Answers UDP over IPv4 without options; says whether it was that. The checksums stay what they are.
static inline bool turn_around(unsigned char *packet, unsigned length)
{
	if (length < 42 || packet[12] != 0x08 || packet[13] != 0x00 || packet[14] != 0x45 || packet[23] != 17 ||
	    (packet[20] & 0x3f) || packet[21])
		return false;
	swap_macs(packet);
	swap(packet + 26, packet + 30, 4);
	swap(packet + 34, packet + 36, 2);
	return true;
}

// The ones' complement sum of bytes as 16-bit words, as the machine has them, in 64 bits.
static inline __u64 words_of(const unsigned char *bytes, unsigned length)
{
	__u64 sum = 0;
	__u32 word;

	for (; length >= 4; bytes += 4, length -= 4) {
		memcpy(&word, bytes, 4);
		sum += word;
	}
	word = 0;
	memcpy(&word, bytes, length);
	return sum + word;
}

static inline __u16 folded(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)((sum & 0xffff) + (sum >> 16));
}

static inline unsigned u16_at(const unsigned char *bytes) { return (unsigned)bytes[0] << 8 | bytes[1]; }

// Bytes of the UDP packet when this is one for the server, over IPv4 without options, with both checksums right (or, as from a
// local sender, that of the pseudo-header alone); otherwise 0.
static inline unsigned udp_of(const unsigned char *packet, unsigned length)
{
	unsigned total, udp;
	__u16 stored, pseudo;

	if (length < 42 || packet[12] != 0x08 || packet[13] != 0x00 || packet[14] != 0x45 || packet[23] != 17 ||
	    (packet[20] & 0x3f) || packet[21])
		return 0;
	total = u16_at(packet + 16);
	udp = u16_at(packet + 38);
	if (total + 14 > length || udp + 20 > total || udp < 8 || u16_at(packet + 36) != UDP_PORT ||
	    memcmp(packet, server_mac, 6) || folded(words_of(packet + 14, 20)) != 0xffff)
		return 0;
	memcpy(&stored, packet + 40, 2);
	if (stored == 0)
		return udp;
	pseudo = folded(words_of(packet + 26, 8) + htons(17) + htons((__u16)udp));
	return folded(pseudo + words_of(packet + 34, udp)) == 0xffff || stored == pseudo ? udp : 0;
}

// Makes an answer of the datagram with new headers, whatever has become of its payload.
static inline void answer(unsigned char *packet, unsigned udp)
{
	static __u16 identification;
	const __u16 length = htons((__u16)udp);
	__u16 sum;

	swap_macs(packet);
	swap(packet + 26, packet + 30, 4);
	swap(packet + 34, packet + 36, 2);
	memcpy(packet + 14, "\x45\0", 2);
	packet[16] = (unsigned char)((udp + 20) >> 8);
	packet[17] = (unsigned char)(udp + 20);
	identification++;
	memcpy(packet + 18, &identification, 2);
	memcpy(packet + 20, "\0\0\x40\x11\0", 6);
	sum = (__u16)~folded(words_of(packet + 14, 20));
	memcpy(packet + 24, &sum, 2);
	memcpy(packet + 38, &length, 2);
	memset(packet + 40, 0, 2);
	sum = (__u16)~folded(words_of(packet + 26, 8) + htons(17) + length + words_of(packet + 34, udp));
	if (sum == 0)
		sum = 0xffff;
	memcpy(packet + 40, &sum, 2);
}

// Each job takes one batch and answers how many packets that was.

static unsigned rxdrop(const struct settings *s, struct port *p)
{
	__u32 from;
	unsigned count = xsk_ring_cons__peek(&p->rx, s->batch, &from);

	for (unsigned i = 0; i < count; i++) {
		const struct xdp_desc *packet = xsk_ring_cons__rx_desc(&p->rx, from++);
		total.bytes += packet->len;
		release(packet->addr);
	}
	xsk_ring_cons__release(&p->rx, count);
	p->lent_rx -= count;
	refill(p);
	return count;
}

static unsigned udprecv(const struct settings *s, struct port *p)
{
	__u32 from;
	unsigned count = xsk_ring_cons__peek(&p->rx, s->batch, &from);

	for (unsigned i = 0; i < count; i++) {
		const struct xdp_desc *packet = xsk_ring_cons__rx_desc(&p->rx, from++);
		if (udp_of(xsk_umem__get_data(memory.area, packet->addr), packet->len) > 0)
			total.bytes += packet->len;
		else
			total.damaged++;
		release(packet->addr);
	}
	xsk_ring_cons__release(&p->rx, count);
	p->lent_rx -= count;
	refill(p);
	return count;
}

enum rewrite { KEEP, SWAP_MACS, TURN_AROUND, ANSWER };

// Sends what `in` has received by `out`, in the same frames.
static inline unsigned pass(const struct settings *s, struct port *in, struct port *out, enum rewrite rewrite)
{
	__u32 from, to = 0;
	unsigned count = xsk_ring_cons__peek(&in->rx, s->batch, &from);
	unsigned sent = 0, room = count ? xsk_ring_prod__reserve(&out->tx, count, &to) : 0;

	for (unsigned i = 0; i < count; i++) {
		const struct xdp_desc *packet = xsk_ring_cons__rx_desc(&in->rx, from++);
		total.bytes += packet->len;
		if (sent >= room) {
			total.dropped_tx++;
			release(packet->addr);
			continue;
		}
		if (rewrite == SWAP_MACS)
			swap_macs(xsk_umem__get_data(memory.area, packet->addr));
		else if (rewrite == TURN_AROUND &&
			 !turn_around(xsk_umem__get_data(memory.area, packet->addr), packet->len)) {
			release(packet->addr);
			continue;
		} else if (rewrite == ANSWER) {
			unsigned char *bytes = xsk_umem__get_data(memory.area, packet->addr);
			const unsigned udp = udp_of(bytes, packet->len);
			if (udp == 0) {
				total.damaged++;
				release(packet->addr);
				continue;
			}
			answer(bytes, udp);
		}
		sent++;
		*xsk_ring_prod__tx_desc(&out->tx, to++) = (struct xdp_desc){ .addr = packet->addr, .len = packet->len };
	}
	xsk_ring_prod__submit(&out->tx, sent);
	xsk_ring_cons__release(&in->rx, count);
	in->lent_rx -= count;
	out->lent_tx += sent;
	flush(s, out);
	refill(in);
	return count;
}

static unsigned l2fwd(const struct settings *s, struct port *p) { return pass(s, p, p, SWAP_MACS); }
static unsigned udpecho(const struct settings *s, struct port *p) { return pass(s, p, p, TURN_AROUND); }
static unsigned udpanswer(const struct settings *s, struct port *p) { return pass(s, p, p, ANSWER); }

static unsigned forward(const struct settings *s, struct port *p)
{
	return pass(s, &p[0], &p[1], KEEP) + pass(s, &p[1], &p[0], KEEP);
}

static unsigned txpush(const struct settings *s, struct port *p)
{
	unsigned count = memory.free_count < s->batch ? memory.free_count : s->batch;
	__u32 to;

	if (xsk_ring_prod__reserve(&p->tx, count, &to) != count)
		count = 0;
	for (unsigned i = 0; i < count; i++)
		*xsk_ring_prod__tx_desc(&p->tx, to++) =
			(struct xdp_desc){ .addr = memory.free[--memory.free_count], .len = s->size };
	xsk_ring_prod__submit(&p->tx, count);
	p->lent_tx += count;
	total.bytes += (unsigned long long)count * s->size;
	flush(s, p);
	return count;
}

/* ------------------------------------------------------------------ measuring */

struct mark {
	struct counters counters;
	struct timespec wall;
	struct rusage usage;
	struct xdp_statistics kernel;
};

static void take_mark(const struct port *p, struct mark *m)
{
	socklen_t length = sizeof m->kernel;

	m->counters = total;
	clock_gettime(CLOCK_MONOTONIC, &m->wall);
	getrusage(RUSAGE_SELF, &m->usage);
	getsockopt(p->fd, SOL_XDP, XDP_STATISTICS, &m->kernel, &length);
}

static double seconds(struct timeval from, struct timeval to)
{
	return (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_usec - from.tv_usec) / 1e6;
}

static void report(const struct mark *from, const struct mark *to)
{
	printf("{\"packets\":%llu,\"bytes\":%llu,\"batches\":%llu,\"wakeups\":%llu,\"txDropped\":%llu,"
	       "\"damaged\":%llu,\"wall\":%.6f,\"user\":%.6f,\"system\":%.6f,"
	       "\"rxDropped\":%llu,\"rxRingFull\":%llu,\"fillRingEmpty\":%llu,\"maxRss\":%ld}\n",
	       to->counters.packets - from->counters.packets, to->counters.bytes - from->counters.bytes,
	       to->counters.batches - from->counters.batches, to->counters.wakeups - from->counters.wakeups,
	       to->counters.dropped_tx - from->counters.dropped_tx,
	       to->counters.damaged - from->counters.damaged,
	       (double)(to->wall.tv_sec - from->wall.tv_sec) + (double)(to->wall.tv_nsec - from->wall.tv_nsec) / 1e9,
	       seconds(from->usage.ru_utime, to->usage.ru_utime), seconds(from->usage.ru_stime, to->usage.ru_stime),
	       (unsigned long long)(to->kernel.rx_dropped - from->kernel.rx_dropped),
	       (unsigned long long)(to->kernel.rx_ring_full - from->kernel.rx_ring_full),
	       (unsigned long long)(to->kernel.rx_fill_ring_empty_descs - from->kernel.rx_fill_ring_empty_descs),
	       to->usage.ru_maxrss * 1024);
}

static void wait_for_packets(const struct settings *s, struct port *p)
{
	struct pollfd fds[2];
	unsigned ports = s->other ? 2 : 1;

	for (unsigned i = 0; i < ports; i++) {
		// Readable, and writable too while the kernel has frames of ours that stop us from receiving.
		fds[i] = (struct pollfd){ .fd = p[i].fd,
					  .events = POLLIN | (p[i].lent_tx && !p[i].lent_rx ? POLLOUT : 0) };
		if (s->busy)
			recvfrom(p[i].fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
	}
	if (!s->busy)
		poll(fds, ports, 100); // a signal between the loop's look at it and this call is seen 0.1 s later
}

static void parse(int argc, char **argv, struct settings *s)
{
	int option;

	*s = (struct settings){ .frames = 4096, .ring = 2048, .batch = 64, .size = 60 };
	while ((option = getopt(argc, argv, "i:o:q:m:f:r:b:s:n:x:BW")) != -1) {
		switch (option) {
		case 'i': s->interface = optarg; break;
		case 'o': s->other = optarg; break;
		case 'q': s->queue = (unsigned)atoi(optarg); break;
		case 'm': s->skb = strcmp(optarg, "skb") == 0; break;
		case 'f': s->frames = (unsigned)atoi(optarg); break;
		case 'r': s->ring = (unsigned)atoi(optarg); break;
		case 'b': s->batch = (unsigned)atoi(optarg); break;
		case 's': s->size = (unsigned)atoi(optarg); break;
		case 'n': s->count = strtoull(optarg, NULL, 10); break;
		case 'x': s->map = (unsigned)atoi(optarg); break;
		case 'B': s->busy = true; break;
		case 'W': s->no_wakeup = true; break;
		default: exit(2);
		}
	}
	s->job = argv[optind];
	if (!s->job || !s->interface || s->batch < 1 || s->batch > MAX_BATCH || s->size < 14 || s->size > FRAME_SIZE ||
	    s->frames < 1 || (strcmp(s->job, "forward") == 0) != (s->other != NULL)) {
		fprintf(stderr, "usage: xsk_reference rxdrop|udprecv|txpush|l2fwd|udpecho|udpanswer -i INTERFACE [options]\n"
				"       xsk_reference forward -i INTERFACE -o INTERFACE [options]\n");
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct settings s;
	static struct port ports[2];
	struct port *const p = ports;
	struct mark from, to;
	unsigned (*job)(const struct settings *, struct port *);
	unsigned count, port_count;

	parse(argc, argv, &s);
	job = strcmp(s.job, "rxdrop") == 0      ? rxdrop
	      : strcmp(s.job, "udprecv") == 0   ? udprecv
	      : strcmp(s.job, "l2fwd") == 0     ? l2fwd
	      : strcmp(s.job, "udpecho") == 0   ? udpecho
	      : strcmp(s.job, "udpanswer") == 0 ? udpanswer
	      : strcmp(s.job, "forward") == 0   ? forward
						: txpush;
	read_mac(&s);
	port_count = s.other ? 2 : 1;
	set_up_memory(s.frames * port_count);
	p[0].interface = s.interface;
	p[1].interface = s.other;
	for (unsigned i = 0; i < port_count; i++)
		set_up(&s, &p[i]);
	signal(SIGTERM, on_end);
	signal(SIGINT, on_end);
	signal(SIGUSR2, on_mark);
	if (job == txpush) {
		// A packet of zeros to nobody, of local experimental type 1, in every frame.
		for (unsigned i = 0; i < s.frames; i++) {
			unsigned char *packet = memory.area + (size_t)i * FRAME_SIZE;
			memcpy(packet, "\x02\0\0\0\0\x01\x02\0\0\0\0\x02\x88\xb5", 14);
		}
	} else {
		for (unsigned i = 0; i < port_count; i++) {
			refill(&p[i]);
			attach(&s, &p[i]);
		}
	}
	printf("ready\n");
	fflush(stdout);
	take_mark(p, &from);
	while (!ending && (s.count == 0 || total.packets < s.count)) {
		if (marking) {
			marking = 0;
			take_mark(p, &from);
		}
		count = job(&s, p);
		total.packets += count;
		if (count > 0)
			total.batches++;
		else
			wait_for_packets(&s, p);
	}
	take_mark(p, &to);
	report(&from, &to);
	for (unsigned i = port_count; i-- > 0;)
		xsk_socket__delete(p[i].socket);
	xsk_umem__delete(memory.umem);
	return 0;
}
