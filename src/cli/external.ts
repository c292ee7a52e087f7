// Other people's commands that ours run.
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { XdpError } from '../kernel/index.js'

/** Throws `XDP_NO_COMMAND` when a command is not installed, naming the Debian package that has it. */
export function requireCommand(command: string, debianPackage: string): void {
  const directories = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin']
  if (directories.some((directory) => isExecutable(join(directory, command)))) return
  throw new XdpError(
    'XDP_NO_COMMAND',
    `The command ${command} is not installed`,
    `Install it with \`apt-get install ${debianPackage}\`.`,
  )
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
