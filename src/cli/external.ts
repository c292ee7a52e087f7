// Other people's commands that ours run.
import { XdpError, isInstalled } from '../kernel/index.js'

/** Throws `XDP_NO_COMMAND` when a command is not installed, naming the Debian package that has it. */
export function requireCommand(command: string, debianPackage: string): void {
  if (isInstalled(command, ['/usr/sbin', '/sbin'])) return
  throw new XdpError(
    'XDP_NO_COMMAND',
    `The command ${command} is not installed`,
    `Install it with \`apt-get install ${debianPackage}\`.`,
  )
}
