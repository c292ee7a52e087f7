// What packets begin with, and what can be done with them because of it.
import { UnsupportedError } from '../kernel/errors.js'
import { LINKTYPE_ETHERNET } from '../packet/pcap-record.js'

/** Filters count their offsets from an Ethernet header: throws `UnsupportedError` where there is none. */
export function requireEthernet(linkType: number, name: string): void {
  if (linkType === LINKTYPE_ETHERNET) return
  throw new UnsupportedError(
    `Packets of ${name} have no Ethernet header (link type ${linkType}), which filters begin with`,
    'Leave the filter out.',
  )
}
