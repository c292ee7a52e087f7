// Builds and loads one shipped program in a process of its own, as a command does, and prints the milliseconds each took.
import { programCases } from './program-cases.js'

/** From nothing to loaded: the first time as V8 meets the code, then once it knows it. */
export interface BuildReport {
  builds: { builder: number; kernel: number }[]
}

const [, , name, rounds] = process.argv
const found = programCases().find((one) => one.name === name)
if (found === undefined) throw new Error(`There is no program ${name}`)
const builds = Array.from({ length: Number(rounds) }, () => {
  const start = performance.now()
  const { definition, fill } = found.define()
  const built = performance.now()
  const loaded = definition.load()
  fill?.(loaded)
  const end = performance.now()
  loaded.close()
  return { builder: built - start, kernel: end - built }
})
process.stdout.write(JSON.stringify({ builds } satisfies BuildReport))
