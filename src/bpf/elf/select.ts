// Which programs and maps of an object a load takes: those asked for, and what these cannot do without.
import { OptionError } from '../../kernel/errors.js'
import type { ObjectContents } from './contents.js'
import type { LinkedProgram } from './link.js'

/** What a load takes. */
export interface Selection<E> {
  /** By name, in the order of the object. */
  readonly programs: ReadonlyMap<string, E>
  /** Names of maps. */
  readonly maps: ReadonlySet<string>
}

/**
 * The programs that `only` names (default all but those in `SEC("?…")`), the maps that they use, and what the first elements of those
 * maps name in turn: a program array without its programs would make each tail call fall through in silence. `given` maps have
 * elements of their own. `link` is called once a program. Throws `OptionError` for a name that is not there.
 */
export function select<E extends { linked: LinkedProgram }>(
  contents: ObjectContents,
  only: string | readonly string[] | undefined,
  given: Readonly<Record<string, unknown>>,
  link: (name: string) => E,
): Selection<E> {
  const specs = new Map(contents.maps.map((spec) => [spec.name, spec]))
  const pending = wanted(contents, only)
  const linked = new Map<string, E>()
  const maps = new Set<string>()
  const take = (name: string): void => {
    if (maps.has(name)) return
    maps.add(name)
    if (Object.hasOwn(given, name) && given[name] !== undefined) return
    for (const { kind, name: element } of specs.get(name)?.initial ?? []) {
      if (kind === 'map') take(element)
      else if (contents.entries.has(element)) pending.push(element)
      // Another function is told of when the map is filled.
    }
  }
  if (only === undefined) for (const name of specs.keys()) take(name)
  // The list grows on the way.
  for (const name of pending) {
    if (linked.has(name)) continue
    const entry = link(name)
    linked.set(name, entry)
    for (const { map } of entry.linked.maps) take(map.name)
  }
  const inOrder = [...contents.entries.keys()].filter((name) => linked.has(name))
  return { programs: new Map(inOrder.map((name) => [name, linked.get(name)!])), maps }
}

/** Names of the programs that were asked for. */
function wanted(
  { entries, name: object }: ObjectContents,
  only: string | readonly string[] | undefined,
): string[] {
  const all = [...entries].map(([name, entry]) => ({ name, section: entry.function.section.name }))
  // SEC("?xdp"): only when asked for.
  if (only === undefined) return all.filter(({ section }) => !section.startsWith('?')).map(({ name }) => name)
  return (typeof only === 'string' ? [only] : only).flatMap((choice) => {
    const found = all.filter(({ name, section }) => name === choice || section === choice)
    if (found.length > 0) return found.map(({ name }) => name)
    const there = all.map(({ name, section }) => `${name} (SEC "${section}")`).join(', ')
    throw new OptionError(
      'only',
      `The object "${object}" has no program "${choice}"`,
      there && `It has: ${there}.`,
    )
  })
}
