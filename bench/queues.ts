// Many queues, forwarding and presets on veth pairs: what a packet costs by one queue and by two, between devices, and as tuned.
import type { Section } from './figures.js'
import { benchForward } from './queues-forward.js'
import { benchPresets } from './queues-presets.js'
import { benchReceive } from './queues-receive.js'
import type { QueuesOptions } from './queues-shared.js'
import { buildReference } from './reference.js'

export async function benchQueues(options: Omit<QueuesOptions, 'reference'>): Promise<Section[]> {
  const all = { ...options, reference: await buildReference() }
  return [await benchReceive(all), await benchForward(all), await benchPresets(all)]
}
