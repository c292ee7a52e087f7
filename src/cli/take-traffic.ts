// Keeps commands that eat an interface's packets from cutting off the host, and the person at its keyboard.
import { requireSpare } from '../capture/divert-safety.js'

/**
 * Throws `XdpError` `XDP_TAKES_TRAFFIC` when the interface is loopback, carries a default route or an SSH connection,
 * unless the user consented. Throws `NotFoundError` for an interface that is not there.
 */
export function requireConsent(name: string, consent: boolean): void {
  requireSpare(name, consent)
}
