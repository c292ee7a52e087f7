// Keeps a link free of packets nobody asked for, so that a test can count exactly.
//
// IPv6 talks by itself: router solicitations, duplicate address detection, and MLD reports for every
// multicast group an address joins (RFC 3810). The first two have switches. A report has none, so it is
// made to happen once, at a known moment: in MLD version 1 the kernel sends a join's first report before
// it goes on (igmp6_join_group in net/ipv6/mcast.c) and the second after a random time below an interval,
// which is set to its maximum of 24 days.
import { writeFileSync } from 'node:fs'
import { KernelError } from '../kernel/errors.js'
import { inNamespace, type Namespace } from '../kernel/namespace.js'

const ENOENT = -2
const settings: Record<string, number> = {
  disable_ipv6: 0,
  accept_ra: 0,
  accept_dad: 0,
  dad_transmits: 0,
  autoconf: 0,
  router_solicitations: 0,
  keep_addr_on_down: 1, // or `ip link set … down` would take the lab's address away
  addr_gen_mode: 1, // IN6_ADDR_GEN_MODE_NONE: no link-local address
  force_mld_version: 1,
  mldv1_unsolicited_report_interval: 0x7fffffff, // ms
}

/** Quiets an interface that is still down. Settings this kernel does not have are left out. Needs root. */
export function quietInterface(name: string, namespace: Namespace | undefined): void {
  inNamespace(namespace, () => {
    for (const [setting, value] of Object.entries(settings)) {
      // /proc/sys/net shows the namespace of the thread that opens it.
      const path = `/proc/sys/net/ipv6/conf/${name}/${setting}`
      try {
        writeFileSync(path, String(value))
      } catch (error) {
        const { errno } = error as NodeJS.ErrnoException
        if (errno === ENOENT) continue
        throw new KernelError('write', -(errno ?? ENOENT), {
          about: path,
          hint: 'A lab needs root and a writable /proc/sys.',
        })
      }
    }
  })
}
