// The programs that can be chosen by name.
import { shippedAcl } from './acl.js'
import { shippedBalance } from './balance.js'
import { shippedCountFlows } from './count-flows.js'
import { shippedCountProtocols } from './count-protocols.js'
import { defineEveryOther } from './every-other.js'
import { filterable } from './filterable.js'
import { shippedMirror } from './mirror.js'
import { defineRedirect } from './redirect.js'
import { shippedRedirectPorts } from './redirect-ports.js'
import { shippedReflect } from './reflect.js'
import { shippedSample } from './sample.js'
import type { ShippedProgram } from './shipped.js'
import { defineDrop, definePass } from './verdict.js'

export { AclProgram, type AclOptions, type AclRuleInput, defineAcl } from './acl.js'
export { type AclRule, type AclSide, type AclVerdict, formatAclRule, parseAclRule } from './acl-rules.js'
export {
  BalanceProgram,
  type BalanceOptions,
  type BalanceTargets,
  defineBalance,
  flowNumber,
} from './balance.js'
export type { Count } from './count.js'
export {
  type CountFlowsOptions,
  type Flow,
  FlowCounter,
  type FlowRest,
  defineCountFlows,
} from './count-flows.js'
export { defineEveryOther } from './every-other.js'
export { type FilteredOptions, FilteredProgram, defineFiltered } from './filtered.js'
export { type ProtocolCount, ProtocolCounter, defineCountProtocols } from './count-protocols.js'
export { Mirror, type MirrorOptions, MirroredPacket, defineMirror, mirrorHeader } from './mirror.js'
export { defineRedirect } from './redirect.js'
export { RedirectPortsProgram, defineRedirectPorts } from './redirect-ports.js'
export { type ReflectSwap, defineReflect } from './reflect.js'
export { SampleProgram, type SampleOptions, defineSample } from './sample.js'
export { type Endpoint, type PortProtocol, type PortRange, parseEndpoints } from './settings.js'
export { defineDrop, definePass } from './verdict.js'
export type {
  DefinedProgram,
  GivenSettings,
  ProgramSetting,
  ProgramShape,
  ShippedProgram,
} from './shipped.js'

// Passing is all that can be done with what does not match a filter, and all that `pass` does.
const unfiltered: readonly [string, ShippedProgram][] = [
  ['pass', { summary: 'passes every packet to the kernel', define: () => ({ definition: definePass() }) }],
]

const filtered: readonly [string, ShippedProgram][] = [
  ['drop', { summary: 'drops every packet', define: () => ({ definition: defineDrop() }) }],
  [
    'redirect',
    {
      summary: "gives packets to their queue's AF_XDP socket, and to the kernel while there is none",
      define: (_, { queues }) => ({ definition: defineRedirect(queues) }),
    },
  ],
  [
    'every-other',
    {
      summary: 'gives every other packet to its AF_XDP socket, and the rest and all ARP to the kernel',
      define: (_, { queues }) => ({ definition: defineEveryOther(queues) }),
    },
  ],
  ['redirect-ports', shippedRedirectPorts],
  ['sample', shippedSample],
  ['acl', shippedAcl],
  ['reflect', shippedReflect],
  ['count-protocols', shippedCountProtocols],
  ['count-flows', shippedCountFlows],
  ['mirror', shippedMirror],
  ['balance', shippedBalance],
]

/**
 * The shipped programs by name. All but `pass` have a setting `filter`. The ping responder is not among them: it needs addresses
 * that change.
 */
export const shippedPrograms: ReadonlyMap<string, ShippedProgram> = new Map([
  ...unfiltered,
  ...filtered.map(([name, shipped]) => [name, filterable(shipped)] as const),
])
