#!/usr/bin/env node
import { existsSync } from 'node:fs'

// Node opens its debugger at one that nobody listens to; a capture prints its statistics then.
process.on('SIGUSR1', () => undefined)

const main = new URL('../dist/src/cli/main.js', import.meta.url)
if (existsSync(main)) {
  const { main: run } = await import(main.href)
  await run(process.argv)
} else {
  console.error('xdp: This checkout is not built yet. Run `npm run build` in it.')
  process.exitCode = 1
}
