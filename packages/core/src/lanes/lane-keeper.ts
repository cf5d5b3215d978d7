import type { BackgroundLoop, Loops } from '../background-loop.ts'
import type { Clock } from '../clock.ts'
import { PosthasteError } from '../errors.ts'
import { errorFields, type Logger } from '../logger.ts'
import { LANE_COUNT } from './lane-number.ts'
import type { LaneStore, TakenLane } from './lane-store.ts'
import { Lease, LeaseObserver } from './lease.ts'

/** Whoever serves the lanes, as the keeper sees it. */
export interface LaneHolder {
  /** These lanes are ours from now on. Rejects where they cannot be loaded; they are given up again then. */
  adopt(lanes: readonly TakenLane[]): Promise<void>
  /** Starts no further send in this lane, waits for those in flight, answers the lane's final position. */
  release(lane: number): Promise<number>
  /** The positions of the lanes held, for the renewal. */
  positions(): { lanes: number[]; positions: number[] }
  /** Fenced: forget everything at once; nothing may be written any more under the old token. */
  abandon(): void
}

export interface LaneKeeperOptions {
  store: LaneStore
  holder: LaneHolder
  clock: Clock
  loops: Loops
  logger: Logger
  workerName: string
  version: string
  leaseMs: number
  /** This installation may not work in this database any more. */
  onRefused(): void
  /** Told after lanes were taken or lost. */
  onChange?(): void
}

export interface LaneKeeper {
  readonly lease: Lease
  /** The token that everything this worker writes is fenced by. Changes when the worker was fenced and begins anew. */
  token(): number
  owned(): number[]
  /** Takes this lane where it is idle and this worker is below its share. */
  claim(lane: number): Promise<void>
  /** One write was refused: this worker is fenced. */
  reportFenced(): void
  start(): Promise<void>
  stop(): Promise<void>
}

/** Every renewal may fail for two thirds of the lease before a send is refused for it. */
const RENEWALS_PER_LEASE = 8
const PURGE_EVERY_MS = 600_000

/**
 * Holds this worker's lease and its share of the lanes: renews, watches the others, fences those whose lease has run out,
 * takes what is idle, and gives up one lane after another while it has more than its share.
 */
export function createLaneKeeper(options: LaneKeeperOptions): LaneKeeper {
  const { store, holder, clock, loops, logger, leaseMs } = options
  const renewMs = leaseMs / RENEWALS_PER_LEASE
  const lease = new Lease(clock, leaseMs)
  let observer = new LeaseObserver(clock, leaseMs)
  let token = 0
  let fenced = false
  let stopping = false
  /** The newest renewal that we know to be written. */
  let renewal = 0
  let owned = new Set<number>()
  let renewDueAt = 0
  let purgeDueAt = clock.monotonic() + PURGE_EVERY_MS
  let loop: BackgroundLoop | null = null
  let target = LANE_COUNT
  let otherWorkers = 0
  let givingUp: Promise<void> | null = null
  /** Changes of ownership one after the other: the loop's and those that a job of the engine asks for. */
  let changing: Promise<void> = Promise.resolve()

  function noteFenced(): void {
    if (fenced) return
    fenced = true
    lease.lost()
    logger.warn('posthaste: this worker lost its lease; what it has not recorded is made again', { token })
    // Who stops does not begin anew, and is not to wait for records that cannot be written any more.
    if (stopping) abandon()
  }

  function abandon(): void {
    holder.abandon()
    owned = new Set()
    options.onChange?.()
  }

  async function beginAnew(): Promise<void> {
    if (token !== 0) {
      abandon()
      // Mostly it is fenced already. In a database that was set back it is not, and would keep its lanes for a whole lease.
      await store.fence(token)
    }
    observer = new LeaseObserver(clock, leaseMs)
    const registered = await store.register(options.workerName, options.version)
    if (registered === null) {
      options.onRefused()
      throw new PosthasteError('INSTALLATION_MISMATCH', 'This installation may not work in this database any more.')
    }
    token = registered
    renewal = 0
    fenced = false
    renewDueAt = 0
  }

  async function renew(): Promise<void> {
    const askedAt = clock.monotonic()
    const { lanes, positions } = holder.positions()
    const renewed = await store.renew(token, renewal, lanes, positions)
    if (renewed !== null) {
      renewal = renewed.seq
      lease.renewed(askedAt)
      renewDueAt = askedAt + renewMs
      // Rows that arrive by it are passed over where somebody dispatches already. Nobody is fenced: what is under way is recorded.
      if (renewed.replica) options.onRefused()
    } else {
      noteFenced()
    }
  }

  /** Everybody computes the same shares: 64 / workers, the rest to the oldest. */
  async function balance(): Promise<void> {
    const workers = await store.listWorkers()
    const others = workers.filter((worker) => worker.token !== token)
    otherWorkers = others.length
    for (const { token: gone } of others.filter((worker) => worker.gone)) {
      const freed = await store.fence(gone)
      logger.info('posthaste: a worker was of another life of this database; its lanes are free', {
        token: gone,
        lanes: freed,
      })
    }
    for (const expired of observer.observe(others.filter((worker) => !worker.gone))) {
      const freed = await store.fence(expired)
      logger.warn('posthaste: a worker has not renewed its lease; its lanes are free', { token: expired, lanes: freed })
    }
    const rank = workers.findIndex((worker) => worker.token === token)
    if (rank < 0) {
      noteFenced()
      return
    }
    await adoptStrays()
    target = Math.floor(LANE_COUNT / workers.length) + (rank < LANE_COUNT % workers.length ? 1 : 0)
    if (owned.size > target) startGivingUp()
    else if (owned.size < target) await take(target - owned.size)
  }

  /** Lanes that are ours in the database only: the answer to taking, or the order to give up, was lost with a connection. */
  async function adoptStrays(): Promise<void> {
    if (givingUp !== null) return
    const strays = (await store.listOwned(token)).filter(({ lane }) => !owned.has(lane))
    if (strays.length === 0) return
    await holder.adopt(strays)
    for (const { lane } of strays) owned.add(lane)
    options.onChange?.()
  }

  async function take(count: number, only?: number): Promise<void> {
    const taken = await store.takeIdle(token, count, only)
    if (taken.length === 0) return
    await adopt(taken)
    logger.debug('posthaste: took lanes', { token, lanes: taken.map(({ lane }) => lane) })
    options.onChange?.()
  }

  async function adopt(taken: readonly TakenLane[]): Promise<void> {
    try {
      await holder.adopt(taken)
      for (const { lane } of taken) owned.add(lane)
    } catch (error) {
      for (const { lane, position } of taken) await store.giveUp(token, lane, position)
      throw error
    }
  }

  /** Beside the renewals: sends under way may take as long as the deadline. */
  function startGivingUp(): void {
    givingUp ??= giveUp(Math.max(...owned))
      .catch((error: unknown) => logger.warn('posthaste: a lane could not be given up', errorFields(error)))
      .finally(() => {
        givingUp = null
        loop?.wake()
      })
  }

  async function giveUp(lane: number): Promise<void> {
    const before = token
    const position = await holder.release(lane)
    if (token !== before) return
    owned.delete(lane)
    await store.giveUp(token, lane, position)
    logger.debug('posthaste: gave a lane up', { token, lane })
    options.onChange?.()
  }

  function serially(work: () => Promise<void>): Promise<void> {
    const next = changing.then(work)
    changing = next.catch(() => {})
    return next
  }

  async function tick(): Promise<number> {
    if (token === 0 || fenced) await beginAnew()
    if (clock.monotonic() >= renewDueAt) await renew()
    if (!fenced) await balance()
    if (fenced) return 0
    if (clock.monotonic() >= purgeDueAt) {
      purgeDueAt = clock.monotonic() + PURGE_EVERY_MS
      await store.purge()
    }
    return Math.max(10, Math.min(renewMs / 3, renewDueAt - clock.monotonic()))
  }

  return {
    lease,
    token: () => token,
    owned: () => [...owned],
    claim: (lane) =>
      serially(async () => {
        if (token !== 0 && !fenced && owned.size < target) await take(1, lane)
      }),
    reportFenced() {
      noteFenced()
      loop?.wake()
    },
    async start() {
      await serially(async () => {
        await tick()
      })
      // Else whoever restarts after a kill sees nothing happen for a lease, and no reason.
      if (owned.size < target) {
        logger.info(
          'posthaste: other workers hold lanes; they hand them over, or lose them when their lease has run out',
          {
            lanes: owned.size,
            share: target,
            otherWorkers,
            leaseMs,
          },
        )
      }
      let pauseMs = 0
      loop = loops.start({
        name: 'lane upkeep',
        logger,
        maxErrorPauseMs: renewMs,
        step: async () => {
          await serially(async () => {
            pauseMs = await tick()
          })
          return pauseMs
        },
      })
    },
    async stop() {
      await loop?.stop()
      await changing
      stopping = true
      if (fenced) abandon()
      await givingUp
      if (token === 0 || fenced) return
      // Lanes are given back at once, so that nobody has to wait for the lease to run out. Where the database is away they
      // are found by that instead.
      try {
        // All of them to their end, also where one fails: their sends are under way.
        const given = await Promise.allSettled([...owned].map((lane) => giveUp(lane)))
        for (const result of given) if (result.status === 'rejected') throw result.reason
        await store.fence(token)
      } catch (error) {
        logger.warn('posthaste: lanes could not be given back at stop', errorFields(error))
      }
    },
  }
}
