// What transports share: the IP packet they are in, and what a wrong checksum should have been.

/** What a transport has to know of the IP packet it is in. */
export interface IpContext {
  version: 4 | 6
  /** Where the IP header is. */
  at: number
  /** Part of a fragmented packet: its checksum covers more than is here. */
  isFragment: boolean
  /** The protocol directly follows the header without extension headers between. */
  isDirect: boolean
}

/** The checksum that would have been right, from the one that is and what the sum over everything gave. */
export function shouldBe(sum: number, wrong: number): number {
  const total = sum + (wrong & 0xffff)
  const folded = (total & 0xffff) + (total >>> 16)
  return (folded & 0xffff) + (folded >>> 16)
}
