// Other people's commands on this machine.
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Whether a command is there to be run: in a directory of PATH, or of `beside`. */
export function isInstalled(command: string, beside: readonly string[] = []): boolean {
  const directories = [...(process.env['PATH'] ?? '/usr/bin:/bin').split(delimiter), ...beside]
  return directories.some((directory) => {
    try {
      accessSync(join(directory, command), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}
