// Keeps commands that eat an interface's packets from cutting off the host, and the person at its keyboard.
import { XdpError, getInterface, listDefaultRoutes } from '../kernel/index.js'

/**
 * Throws `XdpError` `XDP_TAKES_TRAFFIC` when the interface is loopback or carries a default route, unless the
 * user consented. Throws `NotFoundError` for an interface that is not there.
 */
export function requireConsent(name: string, consent: boolean): void {
  const { index, loopback } = getInterface(name)
  if (consent) return
  const why = loopback
    ? 'is what the programs of this host talk to each other over'
    : listDefaultRoutes().some((route) => route.ifindex === index)
      ? 'carries the default route of this host'
      : undefined
  if (why === undefined) return
  throw new XdpError(
    'XDP_TAKES_TRAFFIC',
    `${name} ${why}, and everything that arrives there would be taken`,
    'Add --take-traffic if that is what you want, or try it in a lab: `xdp lab up`.',
  )
}
