// IPv4 addresses among IPv6 ones, as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2): keys of maps that hold both.

/** What stands before the four bytes. */
export const MAPPED_IPV4 = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff)

/** The 16 bytes of an address of 4 or 16. */
export function mappedAddress(address: Uint8Array): Uint8Array {
  if (address.length === 16) return address
  const mapped = new Uint8Array(16)
  mapped.set(MAPPED_IPV4)
  mapped.set(address, 12)
  return mapped
}
