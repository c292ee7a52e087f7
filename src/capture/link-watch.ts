// Follows one interface: down, up again, gone.
import { getInterface, type Namespace } from '../kernel/index.js'
import { NetworkMonitor } from '../kernel/netlink/monitor.js'
import { InterfaceGoneError } from './errors.js'

/** Who wants to know, called from the event loop and never inside `new`. */
export interface LinkChanges {
  changed: (isUp: boolean) => void
  /** Called once. */
  gone: (error: InterfaceGoneError) => void
}

/** Follows an interface until it is closed or gone; says so too if it is down from the start. Does not keep the event loop alive. */
export class LinkWatch {
  readonly #monitor: NetworkMonitor
  readonly #look: () => boolean | undefined
  readonly #changes: LinkChanges
  #isUp = true
  #next: NodeJS.Immediate | undefined
  #isOpen = true

  constructor(
    { index, name }: { index: number; name: string },
    namespace: Namespace | undefined,
    changes: LinkChanges,
  ) {
    this.#changes = changes
    this.#look = () => {
      try {
        return getInterface(index, { namespace }).up
      } catch (error) {
        this.close()
        changes.gone(new InterfaceGoneError(name, error))
        return undefined
      }
    }
    // Announcements come in swarms; one look answers for all of them.
    const soon = () => (this.#next ??= setImmediate(this.#onAnnounced))
    this.#monitor = new NetworkMonitor(
      { neighbour: () => undefined, routes: soon, lost: soon },
      namespace === undefined ? {} : { namespace },
    )
    soon()
  }

  readonly #onAnnounced = (): void => {
    this.#next = undefined
    if (!this.#isOpen) return
    const isUp = this.#look()
    if (isUp === undefined || isUp === this.#isUp) return
    this.#isUp = isUp
    this.#changes.changed(isUp)
  }

  /** Closing twice is harmless. */
  close(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    clearImmediate(this.#next)
    this.#monitor.close()
  }
}
