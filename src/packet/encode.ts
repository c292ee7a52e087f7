// What all encoders share: checked writes, so that a value that does not fit its field is refused by name.
import { parseIpv4, parseIpv6, parseMac } from './address.js'
import { PacketError } from './problem.js'

/** An address in a field to encode: text, or its bytes. */
export type AddressInput = string | Uint8Array

/** Throws unless `size` bytes fit at `offset`. */
export function needRoom(bytes: Uint8Array, offset: number, size: number, header: string): void {
  if (!(offset >= 0 && offset + size <= bytes.length)) {
    const message = `${header} takes ${size} bytes at offset ${offset}, the buffer has ${bytes.length}`
    throw new PacketError('ERR_PACKET_ROOM', message)
  }
}

/** `value`, if it is an integer of at most `bits` bits. */
export function checked(value: number, bits: number, field: string): number {
  if (!(Number.isInteger(value) && value >= 0 && value < 2 ** bits)) {
    throw new PacketError('ERR_PACKET_VALUE', `${field} is ${value}, which is no ${bits}-bit number`)
  }
  return value
}

export function putMac(bytes: Uint8Array, offset: number, address: AddressInput, field: string): void {
  putAddress(bytes, offset, typeof address === 'string' ? parseMac(address) : address, 6, address, field)
}

export function putIpv4(bytes: Uint8Array, offset: number, address: AddressInput, field: string): void {
  putAddress(bytes, offset, typeof address === 'string' ? parseIpv4(address) : address, 4, address, field)
}

export function putIpv6(bytes: Uint8Array, offset: number, address: AddressInput, field: string): void {
  putAddress(bytes, offset, typeof address === 'string' ? parseIpv6(address) : address, 16, address, field)
}

function putAddress(
  bytes: Uint8Array,
  offset: number,
  address: Uint8Array | undefined,
  size: number,
  given: AddressInput,
  field: string,
): void {
  if (address?.length !== size) {
    const shown = typeof given === 'string' ? `'${given}'` : `${given.length} bytes`
    throw new PacketError('ERR_PACKET_ADDRESS', `${field} is ${shown}, not an address of ${size} bytes`)
  }
  bytes.set(address, offset)
}
