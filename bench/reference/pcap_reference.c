// What libpcap needs for filters over the packets of a file: to compile each, and to run each in its interpreter.
//
//   pcap_reference packets.pcap 'expression'...
//
// A line of JSON for each expression: nanoseconds to compile (least of many), nanoseconds a packet (least of the rounds),
// instructions, and how many of the packets match.
#include <pcap.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COMPILES = 50, ROUNDS = 15, ROUND_PACKETS = 200000, MOST_PACKETS = 4096, SNAP_LENGTH = 262144 };

struct packet {
  u_char *bytes;
  u_int length;
};

static struct packet packets[MOST_PACKETS];
static int packet_count;

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void read_packets(const char *path) {
  char error[PCAP_ERRBUF_SIZE];
  pcap_t *file = pcap_open_offline(path, error);
  if (file == NULL) {
    fprintf(stderr, "%s\n", error);
    exit(1);
  }
  struct pcap_pkthdr *header;
  const u_char *bytes;
  while (packet_count < MOST_PACKETS && pcap_next_ex(file, &header, &bytes) == 1) {
    struct packet *packet = &packets[packet_count++];
    packet->bytes = malloc(header->caplen);
    packet->length = header->caplen;
    memcpy(packet->bytes, bytes, header->caplen);
  }
  pcap_close(file);
}

static void measure(pcap_t *ethernet, const char *expression) {
  struct bpf_program program;
  uint64_t compile = UINT64_MAX;
  for (int i = 0; i < COMPILES; i++) {
    uint64_t start = now();
    if (pcap_compile(ethernet, &program, expression, 1, PCAP_NETMASK_UNKNOWN) != 0) {
      fprintf(stderr, "%s: %s\n", expression, pcap_geterr(ethernet));
      exit(1);
    }
    uint64_t took = now() - start;
    if (took < compile) compile = took;
    if (i < COMPILES - 1) pcap_freecode(&program);
  }
  double best = 1e18;
  unsigned long matches = 0;
  unsigned long total = (unsigned long)(ROUND_PACKETS / packet_count) * (unsigned long)packet_count;
  for (int round = 0; round < ROUNDS; round++) {
    matches = 0;
    uint64_t start = now();
    for (unsigned long n = 0; n < total; n += (unsigned long)packet_count) {
      for (int i = 0; i < packet_count; i++) {
        matches += bpf_filter(program.bf_insns, packets[i].bytes, packets[i].length, packets[i].length) != 0;
      }
    }
    double took = (double)(now() - start) / (double)total;
    if (took < best) best = took;
  }
  printf("{\"compile\":%llu,\"packet\":%.3f,\"instructions\":%u,\"matches\":%lu}\n", (unsigned long long)compile, best,
         program.bf_len, matches * (unsigned long)packet_count / total);
  pcap_freecode(&program);
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  read_packets(argv[1]);
  if (packet_count == 0) return 1;
  pcap_t *ethernet = pcap_open_dead(DLT_EN10MB, SNAP_LENGTH);
  for (int i = 2; i < argc; i++) measure(ethernet, argv[i]);
  pcap_close(ethernet);
  return 0;
}
