// What the kernel announces of its network: heard by one thread, and told to the other threads of a server.
import { NetworkMonitor, type Namespace, type Neighbour, type NetworkChanges } from '../kernel/index.js'

/** Has somebody told of changes, until it is closed. The event loop does not stay alive for it. */
export type WatchNetwork = (changes: NetworkChanges) => { close(): void }

/** What a thread tells the others. */
type Announcement = 'routes' | 'lost' | { neighbour: Neighbour; gone: boolean }

/** As the kernel announces them. */
export function watchKernel(namespace: Namespace | undefined): WatchNetwork {
  return (changes) => new NetworkMonitor(changes, { namespace })
}

/** Likewise, and tells those threads of this process that listen to the channel of this name. */
export function watchForAll(namespace: Namespace | undefined, channel: string): WatchNetwork {
  return (changes) => {
    const others = new BroadcastChannel(channel)
    const tell = (announcement: Announcement) => others.postMessage(announcement)
    const monitor = watchKernel(namespace)({
      neighbour(neighbour, gone) {
        changes.neighbour(neighbour, gone)
        tell({ neighbour, gone })
      },
      routes() {
        changes.routes()
        tell('routes')
      },
      lost() {
        changes.lost()
        tell('lost')
      },
    })
    const close = () => {
      monitor.close()
      others.close()
    }
    return { close }
  }
}

/** As the thread tells them that has `watchForAll` on the channel. A thread that ends in whatever way leaves nothing open. */
export function watchChannel(channel: string): WatchNetwork {
  return (changes) => {
    const heard = new BroadcastChannel(channel)
    heard.unref()
    heard.onmessage = (event) => {
      const { data } = event as { data: Announcement }
      if (data === 'routes') changes.routes()
      else if (data === 'lost') changes.lost()
      else changes.neighbour(data.neighbour, data.gone)
    }
    return heard
  }
}
