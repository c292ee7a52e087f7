// A lab: two network interfaces joined by a virtual cable, for developing, testing and showing XDP without hardware.
import type { ChildProcess } from 'node:child_process'
import { Worker, type WorkerOptions } from 'node:worker_threads'
import { KernelError, NotFoundError } from '../kernel/errors.js'
import { getInterface, type Interface } from '../kernel/interfaces.js'
import { Namespace } from '../kernel/namespace.js'
import { getFeatures, listAddresses, type LinkAddress, type LinkStats } from '../kernel/netlink/index.js'
import { formatCidr, formatIp, formatMac } from '../packet/address.js'
import { buildLab } from './build.js'
import {
  aliasOf,
  checkLabName,
  interfaceName,
  namespaceName,
  planLab,
  type EndId,
  type LabOptions,
} from './plan.js'
import { listLabs, listProcesses, removeLab } from './remove.js'
import { spawnInside, type LabSpawnOptions } from './run.js'

/** One end of a lab's cable. Addresses are text. */
export interface LabEnd {
  readonly id: EndId
  /** The end's own namespace; undefined for end `a` of a lab that is not isolated. Pass it as `{ namespace }` to whatever takes one. */
  readonly namespace: Namespace | undefined
  readonly interface: string
  readonly ifindex: number
  readonly mac: string
  readonly ipv4: string
  /** Undefined when the kernel runs without IPv6 or the MTU is below 1280. */
  readonly ipv6: string | undefined
  /** RX and TX queues. */
  readonly queues: number
  readonly mtu: number
}

/** What became of a command. */
export interface ExecResult {
  /** The exit status; undefined when a signal ended it. */
  readonly status: number | undefined
  readonly signal: NodeJS.Signals | undefined
  readonly stdout: string
  readonly stderr: string
}

/** How to run a command to its end. */
export interface ExecOptions extends Omit<LabSpawnOptions, 'stdio' | 'detached'> {
  /** Written to the command's standard input, which is empty without. */
  input?: string | Uint8Array | undefined
}

/** A lab in a listing. */
export interface LabListing {
  readonly name: string
  /** False for what a crash left of one: `Lab.remove` finishes it. */
  readonly complete: boolean
}

/**
 * A virtual network of two ends, `a` and `b`, as long as `down()` is not called, whatever happens to the
 * process. Nothing but the kernel knows of it: any process may open or remove it by name. Needs
 * CAP_SYS_ADMIN and CAP_NET_ADMIN. Kernel 5.6; 5.13 for `napi`.
 */
export class Lab {
  readonly name: string
  readonly isolated: boolean
  /** The end under test; the host's end when the lab is not isolated. */
  readonly a: LabEnd
  readonly b: LabEnd
  #children = new Set<ChildProcess>()
  #workers = new Set<Worker>()

  private constructor(name: string, a: LabEnd, b: LabEnd) {
    this.name = name
    this.isolated = a.namespace !== undefined
    this.a = a
    this.b = b
  }

  /**
   * Makes a lab: links up, addresses usable, and silent until someone sends. Throws `OptionError`,
   * `XdpError` `XDP_EXISTS` when the name is taken, `KernelError`; nothing is left behind then.
   */
  static create(options: LabOptions = {}): Lab {
    const plan = planLab(options)
    buildLab(plan)
    return Lab.open(plan.name)
  }

  /** Opens a lab that is there. Throws `NotFoundError` when there is none, or only part of one. */
  static open(name: string): Lab {
    checkLabName(name)
    const labs = listLabs()
    if (!labs.includes(name)) {
      const hint = labs.length === 0 ? 'Make one with `xdp lab up`.' : `There are: ${labs.join(', ')}.`
      throw new NotFoundError(`No lab ${name}`, hint)
    }
    const namespaces: Namespace[] = []
    try {
      const isolated = Namespace.list().includes(namespaceName(name, 'a'))
      const [a, b] = (['a', 'b'] as const).map((id) => {
        const namespace = id === 'b' || isolated ? Namespace.open(namespaceName(name, id)) : undefined
        if (namespace) namespaces.push(namespace)
        return readEnd(name, id, namespace)
      })
      return new Lab(name, a, b)
    } catch (error) {
      for (const namespace of namespaces) namespace.close()
      if (error instanceof KernelError && error.code === 'EPERM') throw error
      throw new NotFoundError(
        `The lab ${name} is not whole: ${(error as Error).message}`,
        `Remove what is left with \`xdp lab down ${name}\`.`,
      )
    }
  }

  /** The labs of this machine, those of other processes included. */
  static list(): LabListing[] {
    return listLabs().map((name) => {
      try {
        Lab.open(name).close()
        return { name, complete: true }
      } catch {
        return { name, complete: false }
      }
    })
  }

  /** Removes a lab by name, whoever made it, from whatever is left of it. False when there was nothing. */
  static remove(name: string): boolean {
    checkLabName(name)
    return removeLab(name)
  }

  /** Removes a lab and makes it anew as it was: programs, counters and changes made by hand are gone. */
  static reset(name: string): Lab {
    const lab = Lab.open(name)
    const { options } = lab
    lab.down()
    return Lab.create(options)
  }

  /** The options that make this lab again, read back from the kernel. */
  get options(): LabOptions {
    const features = getFeatures(this.b.ifindex, this.b)
    const { ipv4, ipv6 } = readAddresses(this.a.ifindex, this.a.namespace)
    return {
      name: this.name,
      isolated: this.isolated,
      queues: this.b.queues,
      mtu: this.b.mtu,
      ipv4: ipv4 && formatCidr(ipv4),
      ipv6: ipv6 && formatCidr(ipv6),
      checksums: features?.get('tx-checksum-ip-generic')?.on ? 'offload' : 'full',
      napi: features?.get('rx-gro')?.on ?? false,
    }
  }

  /** Both interfaces as the kernel describes them now: up or not, XDP attached, queues, counters. */
  interfaces(): Record<EndId, Interface> {
    return { a: getInterface(this.a.ifindex, this.a), b: getInterface(this.b.ifindex, this.b) }
  }

  /** The counters of both interfaces. */
  stats(): Record<EndId, LinkStats> {
    const { a, b } = this.interfaces()
    return { a: a.stats, b: b.stats }
  }

  /** Starts a command at an end. It ends with `down()` at the latest. A command that is not there exits with 127. */
  spawn(
    end: EndId,
    command: string,
    args: readonly string[] = [],
    options: LabSpawnOptions = {},
  ): ChildProcess {
    const child = spawnInside(this[end].namespace, command, args, options)
    this.#children.add(child)
    child.once('exit', () => this.#children.delete(child))
    return child
  }

  /** Runs a command at an end and gathers what it wrote. Rejects when it cannot be started. */
  async exec(
    end: EndId,
    command: string,
    args: readonly string[] = [],
    options: ExecOptions = {},
  ): Promise<ExecResult> {
    const { input, ...rest } = options
    const child = this.spawn(end, command, args, { ...rest, stdio: ['pipe', 'pipe', 'pipe'] })
    const written = { stdout: '', stderr: '' }
    for (const stream of ['stdout', 'stderr'] as const) {
      child[stream]?.setEncoding('utf8').on('data', (text: string) => (written[stream] += text))
    }
    // A command that does not read its input closes the pipe, which is no error of ours.
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(input)
    return new Promise((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (status, signal) => {
        resolve({ status: status ?? undefined, signal: signal ?? undefined, ...written })
      })
    })
  }

  /** Starts a worker thread at an end: all it opens is inside. It is terminated with `down()` at the latest. */
  worker(end: EndId, file: string | URL, options: WorkerOptions = {}): Worker {
    const start = (): Worker => new Worker(file, options)
    const { namespace } = this[end]
    const worker = namespace ? namespace.run(start) : start()
    this.#workers.add(worker)
    worker.once('exit', () => this.#workers.delete(worker))
    return worker
  }

  /** The processes inside the lab's namespaces, whoever started them. They live on after `down()`, without the cable. */
  processes(): number[] {
    return listProcesses(this.name)
  }

  /** Ends the commands and workers started through this object, and removes the lab. Calling it twice is harmless. */
  down(): void {
    for (const child of this.#children) child.kill('SIGKILL')
    for (const worker of this.#workers) void worker.terminate()
    removeLab(this.name)
    this.close()
  }

  [Symbol.dispose](): void {
    this.down()
  }

  /** Lets go of the lab without removing it: the descriptors of its namespaces are closed. */
  close(): void {
    this.a.namespace?.close()
    this.b.namespace?.close()
  }
}

function readEnd(lab: string, id: EndId, namespace: Namespace | undefined): LabEnd {
  const link = getInterface(interfaceName({ name: lab, isolated: namespace !== undefined }, id), {
    namespace,
  })
  if (link.alias !== aliasOf(lab)) throw new NotFoundError(`the interface ${link.name} is not the lab's`)
  const { ipv4, ipv6 } = readAddresses(link.index, namespace)
  if (ipv4 === undefined) throw new NotFoundError(`the interface ${link.name} has no address`)
  return {
    id,
    namespace,
    interface: link.name,
    ifindex: link.index,
    mac: formatMac(link.mac),
    ipv4: formatIp(ipv4.address),
    ipv6: ipv6 && formatIp(ipv6.address),
    queues: link.rxQueues,
    mtu: link.mtu,
  }
}

function readAddresses(ifindex: number, namespace: Namespace | undefined) {
  const addresses = listAddresses({ ifindex, namespace })
  const first = (version: 4 | 6): LinkAddress | undefined =>
    addresses.find((address) => address.version === version && address.scope === 'global')
  return { ipv4: first(4), ipv6: first(6) }
}
