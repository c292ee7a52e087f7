// What several commands read from the words of their line. Each throws commander's error for what it cannot read.
import { InvalidArgumentError } from 'commander'
import { parseIp, parseMac } from '../packet/address.js'

/** A whole number in a range, both ends included. */
export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : NaN
    if (!(value >= least && value <= most))
      throw new InvalidArgumentError(`Use a whole number from ${least} to ${most}.`)
    return value
  }
}

/** Several of them, as in 60,512. */
export function wholeNumbers(least: number, most: number): (text: string) => number[] {
  const one = wholeNumber(least, most)
  return (text) => text.split(',').map(one)
}

/** A positive number of seconds. */
export function seconds(text: string): number {
  const value = Number(text)
  if (!(value > 0 && value <= 86_400)) throw new InvalidArgumentError('Use a number of seconds above 0.')
  return value
}

/** An IPv4 or IPv6 address, as it was written. */
export function ipAddress(text: string): string {
  if (!parseIp(text)) throw new InvalidArgumentError('Use an IPv4 or IPv6 address.')
  return text
}

/** A hardware address, as it was written. */
export function mac(text: string): string {
  if (!parseMac(text)) throw new InvalidArgumentError('Use a hardware address as 02:00:00:00:00:01.')
  return text
}

/** The same of one host: none of a group. */
export function hostMac(text: string): string {
  if (parseMac(mac(text))![0] & 1)
    throw new InvalidArgumentError('That is the address of a group. Use that of one host.')
  return text
}
