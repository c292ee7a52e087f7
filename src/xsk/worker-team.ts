// The workers of one queue: their sockets are opened and closed together, and they are replaced when one ends by itself.
import { setTimeout as delay } from 'node:timers/promises'
import { StateError } from '../kernel/index.js'
import { asError } from './controlled-thread.js'
import { Crashes, type RestartPolicy } from './restart.js'
import { createSharedQueue } from './shared-queue.js'
import type { GroupWorker } from './worker-thread.js'

/** What a team tells its group. */
export interface TeamEvents {
  onCrash: (worker: GroupWorker, error: Error, restartInMs: number) => void
  onRestart: (worker: GroupWorker) => void
  onFailed: (worker: GroupWorker, error: Error) => void
}

/** Mostly a team of one. Several share their frames, so that one's crash is the end for the sockets of all. */
export class WorkerTeam {
  readonly members: readonly GroupWorker[]
  /** Frames of all members. */
  readonly #frames: number
  readonly #crashes: ReadonlyMap<GroupWorker, Crashes>
  readonly #events: TeamEvents
  #pause = new AbortController()
  // Starts, stops and replacements, one after the other.
  #work: Promise<void> = Promise.resolve()

  constructor(
    members: readonly GroupWorker[],
    frames: number,
    restart: RestartPolicy | false,
    events: TeamEvents,
  ) {
    this.members = members
    this.#frames = frames
    this.#crashes = new Map(members.map((member) => [member, new Crashes(restart)]))
    this.#events = events
    for (const member of members) {
      member.onCrash = (error, ranForMs) => this.#onCrash(member, error, ranForMs)
    }
  }

  /** Opens the sockets and starts the threads of those that are stopped or failed. Throws what stands in the way; nothing is left then. */
  start(): Promise<void> {
    return this.#next(async () => {
      const isIdle = ({ state }: GroupWorker) => state === 'stopped' || state === 'failed'
      if (!this.members.some(isIdle)) return
      this.#pause = new AbortController()
      await this.#takeDown()
      for (const member of this.members) {
        this.#crashes.get(member)?.clear()
        member.state = 'starting'
      }
      try {
        await this.#bringUp()
      } catch (error) {
        for (const member of this.members) member.state = 'stopped'
        throw asError(error)
      }
    })
  }

  /** Ends the threads, each when it has sent what it has to, and closes the sockets. */
  stop(): Promise<void> {
    this.#pause.abort()
    return this.#next(async () => {
      await this.#takeDown()
      for (const member of this.members) member.state = 'stopped'
    })
  }

  #next(work: () => Promise<void>): Promise<void> {
    const done = this.#work.then(work)
    this.#work = done.catch(() => undefined)
    return done
  }

  #onCrash(member: GroupWorker, error: Error, ranForMs: number): void {
    // While the team comes up it looks for those that have ended already by itself.
    if (member.state !== 'running') return
    member.state = 'restarting'
    void this.#next(() => this.#replace(member, error, ranForMs))
  }

  // Puts new threads in the places of all, one of which has ended, as often as the policy says.
  async #replace(member: GroupWorker, error: Error, ranForMs: number): Promise<void> {
    const { signal } = this.#pause
    // Another one's crash has had it replaced already.
    while (!signal.aborted && member.state !== 'running') {
      const wait = this.#crashes.get(member)?.add(ranForMs)
      const isLost = wait === undefined
      ranForMs = 0
      await this.#takeDown()
      if (signal.aborted) return
      if (isLost) {
        member.state = 'failed'
        this.#events.onFailed(member, error)
      } else this.#events.onCrash(member, error, wait)
      const left = this.members.filter(({ state }) => state !== 'failed')
      if (left.length === 0) return
      for (const other of left) other.state = 'restarting'
      await delay(wait ?? 0, undefined, { signal }).catch(() => undefined)
      if (signal.aborted) return
      try {
        await this.#bringUp()
        if (isLost) return
        member.restarts++
        this.#events.onRestart(member)
      } catch (again) {
        error = asError(again)
        if (isLost) member = left[0]
      }
    }
  }

  async #bringUp(): Promise<void> {
    const members = this.members.filter(({ state }) => state !== 'failed')
    try {
      for (const member of members) {
        member.state = 'starting'
        await member.openSocket(members.find(({ bound }) => bound)?.bound)
      }
      if (this.#pause.signal.aborted) throw new StateError('The worker was stopped')
      const sockets = this.members.map(({ bound }) => bound?.fd)
      const queue = this.members.length > 1 ? createSharedQueue(sockets.length, this.#frames) : undefined
      const started = members.map((member) => {
        const index = this.members.indexOf(member)
        return member.startThread(queue && { queue, index, sockets })
      })
      for (const result of await Promise.allSettled(started)) {
        if (result.status === 'rejected') throw result.reason
      }
      for (const member of members) {
        if (member.threadId === undefined) throw new StateError('A worker ended before the others were ready')
        member.steer()
        member.state = 'running'
      }
    } catch (error) {
      await this.#takeDown()
      throw error
    }
  }

  async #takeDown(): Promise<void> {
    await Promise.all(this.members.map((member) => member.endThread()))
    for (const member of this.members) member.closeSocket()
  }
}
