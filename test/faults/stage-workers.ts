/** The workers of a stage, each behind a proxy of its own: started, killed, stopped, and told what faults do to clocks and names. */
import { setTimeout as sleep } from 'node:timers/promises'
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts'
import type { Chronicle } from './chronicle.ts'
import { type StageProcess, startProcess } from './ipc.ts'
import type { WorkerOrder, WorkerSettings, WorkerTold } from './processes/worker.ts'
import type { Schedule } from './schedule.ts'

/** Short, so that a run is over soon; with a deadline that a busy second does not miss. */
export const DEADLINE_MS = 1_500
export const LEASE_MS = 3_000
/** `stop()`: sends under way may take their deadline, a database that is away five seconds more. */
const STOP_WITHIN_MS = 30_000
const END_WITHIN_MS = 10_000
/** Waited for this many times the bound, so that a machine that stalled can be told from a `stop()` that hangs. */
const PATIENCE = 3

export interface WorkerSlot {
  proxy: TcpProxy
  library: string
  /** Null while nobody works here. */
  process: StageProcess<WorkerOrder, WorkerTold> | null
  /** The loopback address of the process, by which receivers know it. */
  address: string
}

export interface StageWorkersOptions {
  schedule: Schedule
  chronicle: Chronicle
  /** Of the database; each worker reaches it through its proxy. */
  url: string
  secretKeys: WorkerSettings['secretKeys']
}

export class StageWorkers {
  readonly slots: WorkerSlot[] = []
  readonly #o: StageWorkersOptions
  #clockOffsetMs = 0
  #addresses = 0
  #dns = true

  constructor(options: StageWorkersOptions) {
    this.#o = options
  }

  async raise(library: string): Promise<void> {
    for (let index = 0; index < this.#o.schedule.workers; index++) {
      this.slots.push({ proxy: await startTcpProxy(this.#o.url), library, process: null, address: '' })
    }
    await Promise.all(this.slots.map((slot) => this.start(slot)))
  }

  /** Of those that run. */
  pids(): number[] {
    return this.slots.flatMap(({ process }) => (process?.running ? [process.pid] : []))
  }

  async start(slot: WorkerSlot): Promise<void> {
    const { schedule, chronicle, secretKeys } = this.#o
    this.#addresses++
    const address = `127.0.${10 + Math.floor(this.#addresses / 200)}.${1 + (this.#addresses % 200)}`
    const started = await startProcess<WorkerOrder, WorkerTold>('worker.ts', {
      database: slot.proxy.url,
      library: slot.library,
      jobEngine: schedule.jobEngine,
      address,
      clockOffsetMs: this.#clockOffsetMs,
      retrySchedule: schedule.retrySchedule,
      deadlineMs: DEADLINE_MS,
      leaseMs: LEASE_MS,
      secretKeys,
    } satisfies WorkerSettings)
    started.onTold(({ at, what, message }) => {
      if (what === 'unhandled') chronicle.unhandled.push(`worker ${address}: ${message}`)
      else chronicle.losses.push({ worker: address, from: at - LEASE_MS, to: at, why: message })
    })
    if (!this.#dns) await started.order({ do: 'dns', works: false })
    slot.process = started
    slot.address = address
    // A host that starts while the database is away starts again, as its supervisor would.
    for (let tries = 1; slot.process === started && started.running; tries++) {
      try {
        await started.order({ do: 'start' })
        return
      } catch (error) {
        if (tries >= 100) throw error
        await sleep(200)
      }
    }
  }

  /** The worker of this slot is gone; what it had answered and not recorded is lost. */
  lose(slot: WorkerSlot, why: string, from = this.#o.chronicle.now()): void {
    const { chronicle } = this.#o
    chronicle.losses.push({ worker: slot.address, from, to: chronicle.now(), why })
  }

  async kill(slot: WorkerSlot): Promise<void> {
    const { process } = slot
    if (process === null) return
    slot.process = null
    const from = this.#o.chronicle.now()
    await process.kill()
    this.lose(slot, 'killed', from)
  }

  /** `stop()`, and the process has to end by itself. */
  async stop(slot: WorkerSlot): Promise<void> {
    const { chronicle } = this.#o
    const { process, address } = slot
    if (process === null || !process.running) return
    slot.process = null
    const from = chronicle.now()
    const over = (what: string, since: number, withinMs: number) =>
      chronicle.bounds.push({ what: `${what} of worker ${address}`, from: since, to: chronicle.now(), withinMs })
    try {
      await process.order({ do: 'stop' }, STOP_WITHIN_MS * PATIENCE)
      const stopped = chronicle.now()
      chronicle.stopMs.push(stopped - from)
      over('stop()', from, STOP_WITHIN_MS)
      await process.finish(END_WITHIN_MS * PATIENCE)
      over('the end after stop()', stopped, END_WITHIN_MS)
    } catch (error) {
      over(`stop() (${(error as Error).message})`, from, STOP_WITHIN_MS)
      // One that rejected at once is as little in order as one that never ends.
      if (chronicle.now() - from < STOP_WITHIN_MS) chronicle.unhandled.push(`stop() of worker ${address}: ${error}`)
      await process.kill()
    }
  }

  /** Moves their wall clocks, and those of workers that start later. */
  async setClock(offsetMs: number): Promise<void> {
    this.#clockOffsetMs = offsetMs
    await this.#tell({ do: 'clock', offsetMs })
  }

  async setDns(works: boolean): Promise<void> {
    this.#dns = works
    await this.#tell({ do: 'dns', works })
  }

  async #tell(order: WorkerOrder): Promise<void> {
    await Promise.all(this.slots.map(({ process }) => process?.order(order).catch(() => {})))
  }

  async strike(): Promise<void> {
    await Promise.all(this.slots.map(({ process }) => process?.kill()))
    await Promise.all(this.slots.map(({ proxy }) => proxy.close()))
  }
}
