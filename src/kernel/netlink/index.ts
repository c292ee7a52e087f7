// The netlink floor's surface: route (links, addresses, neighbours, routes, XDP), generic (netdev, ethtool).
export * from './address.js'
export * from './codec.js'
export * from './ethtool.js'
export * from './generic.js'
export {
  checkLinkName,
  createVeth,
  deleteLink,
  getLink,
  listLinks,
  setLink,
  type Link,
  type LinkChanges,
  type LinkReference,
  type LinkStats,
  type OperState,
  type VethEnd,
} from './link.js'
export { setLinkXdp, type LinkXdp, type SetLinkXdp, type XdpMode } from './link-xdp.js'
export * from './monitor.js'
export * from './neighbour.js'
export * from './netdev.js'
export * from './route.js'
export * from './socket.js'
