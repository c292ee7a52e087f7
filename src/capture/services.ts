// Names of ports, from the system's own table.
import { readFileSync } from 'node:fs'

/**
 * Reads /etc/services (getservent(3)) for `FormatOptions.service`. Names nothing when the file cannot be read. The
 * first name of a port counts.
 */
export function loadServices(
  path = '/etc/services',
): (port: number, protocol: 'tcp' | 'udp') => string | undefined {
  const names = new Map<string, string>()
  for (const line of readLines(path)) {
    const match = /^\s*([^\s#]+)\s+(\d+)\/(tcp|udp)\b/.exec(line)
    const key = match && `${match[2]}/${match[3]}`
    if (key && !names.has(key)) names.set(key, match[1])
  }
  return (port, protocol) => names.get(`${port}/${protocol}`)
}

function readLines(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n')
  } catch {
    return []
  }
}
