// Runs a command inside a namespace, with a /sys that shows that namespace's devices.
import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process'
import { isInstalled } from '../kernel/commands.js'
import type { Namespace } from '../kernel/namespace.js'

/** What to run a command with: Node's own spawn options, and which /sys the command sees. */
export interface LabSpawnOptions extends SpawnOptions {
  /**
   * `namespace` (default): a fresh /sys with the end's own devices, /sys/fs/bpf kept, where `unshare`
   * and `mount` of util-linux are installed. `host`: as it is.
   */
  sysfs?: 'namespace' | 'host' | undefined
}

// A sysfs shows the network namespace it was mounted from. It goes over the old one in a mount namespace of
// its own, and takes /sys/fs/bpf, where pinned programs are, along by a descriptor opened before.
const REMOUNT = `
if grep -q ' /sys/fs/bpf bpf ' /proc/self/mounts; then exec 9</sys/fs/bpf; bpf=1; fi
mount -t sysfs sysfs /sys || exit 126
if [ "$bpf" ]; then mount --no-canonicalize --bind /proc/self/fd/9 /sys/fs/bpf; exec 9<&-; fi
exec "$@"`

/** Starts a command inside `namespace`, or where this thread is when none is given. The child's pid is the command's own. */
export function spawnInside(
  namespace: Namespace | undefined,
  command: string,
  args: readonly string[],
  options: LabSpawnOptions = {},
): ChildProcess {
  const { sysfs, ...spawnOptions } = options
  if (namespace === undefined) return spawn(command, args, spawnOptions)
  const wrapped = sysfs !== 'host' && isInstalled('unshare') && isInstalled('mount')
  const line = wrapped
    ? ['unshare', '--mount', 'sh', '-c', REMOUNT, 'sh', command, ...args]
    : [command, ...args]
  return namespace.run(() => spawn(line[0], line.slice(1), spawnOptions))
}
