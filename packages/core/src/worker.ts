import { type BackgroundLoop, type Loops, timedLoops } from './background-loop.ts'
import type { Config } from './config.ts'
import { createDeliveryExpirer } from './delivery/delivery-expirer.ts'
import { createEndpointConfigs } from './delivery/endpoint-config.ts'
import { LaneServer } from './delivery/lane-server.ts'
import { createRetrySchedule } from './delivery/retry-schedule.ts'
import { createDispatcher } from './dispatch/dispatcher.ts'
import { PosthasteError } from './errors.ts'
import type { Transport } from './http-client/transport.ts'
import { createGate } from './installation/gate.ts'
import type { Refusal } from './installation/refusal.ts'
import { createLaneKeeper } from './lanes/lane-keeper.ts'
import { LANE_COUNT } from './lanes/lane-number.ts'
import { createLaneStore } from './lanes/lane-store.ts'
import type { Lifecycle } from './lifecycle/events.ts'
import { createHeldExpiry } from './queue/held-expiry.ts'
import { createJobEngine, type JobEngine } from './queue/job-engine.ts'
import { createLaneOffers } from './queue/lane-offers.ts'
import { createLogUpkeep } from './queue/log-upkeep.ts'
import { createPartitionUpkeep } from './queue/partition-upkeep.ts'
import { createReplayRunner } from './replays/replay-runner.ts'
import { createAttemptRollup } from './stats/attempt-rollup.ts'
import { connect, hurryConnections } from './storage/connection.ts'
import { openPgPool } from './storage/pg-pool.ts'
import { VERSION } from './version.ts'

export interface WorkerDependencies {
  config: Config
  /** Closed by whoever made it, after `stop()`. */
  transport: Transport
  lifecycle: Lifecycle
  /** Why this process may not work at present; null where it may. */
  refusal(): Promise<Refusal | null>
  /** Shown in the `workers` table. */
  name: string
  parts?: WorkerParts
}

/** What tests put in the place of time and chance. */
export interface WorkerParts {
  /** Default: timers. */
  loops?: Loops
  /** The source of the retry schedule's jitter, 0 ≤ x < 1. Default `Math.random`. */
  random?: () => number
  /** Partitions, old rows and sums are looked after. Default true. */
  maintains?: boolean
}

/** The delivering part of one process: dispatcher, lanes, job engine. */
export interface Worker {
  /** Something of this process is about to be committed. Does nothing while the worker is not started. */
  nudge(): void
  /** A replay may have begun. */
  wakeReplays(): void
  /** It may be allowed to work now. */
  lookAgain(): void
  migrateEngine(): Promise<void>
  /** Resolves also where this process may not work in this database: it waits then, and begins as soon as it may. */
  start(): Promise<void>
  stop(): Promise<void>
  /** Resolves when nothing is under way or unwritten at this moment. Answers whether anything was. */
  atRest(): Promise<boolean>
}

/** How often lanes with work and no owner are looked for. */
const RECONCILE_EVERY_MS = 3_000
const UPKEEP_EVERY_MS = 60_000
/** Something that should have gone is in use: it goes soon after that ends. */
const UPKEEP_AGAIN_MS = 5_000
/** Upkeep has a connection of its own: looking through a week may take many seconds, in which it answers nothing. */
const UPKEEP_SILENCE_MS = 600_000
/** A connection that answers nothing is given up while the lease can still be renewed on another. */
const SILENCE_OF_LEASE = 0.6
/** Once `stop()` was called, after this long. */
const STOP_SILENCE_MS = 3_000
/** Whoever owns this lane looks for committed events often; the others leave it to that process. */
const LEADING_LANE = 0

export function createWorker({ config, transport, lifecycle, refusal, name, parts = {} }: WorkerDependencies): Worker {
  const { schema, queueSchema, logger, clock } = config
  const { loops = timedLoops, random = Math.random, maintains = true } = parts
  let running: Omit<Worker, 'start' | 'migrateEngine' | 'lookAgain'> | null = null
  let state: 'new' | 'started' | 'stopped' = 'new'

  const engineOf = (onOffer: (lane: number) => Promise<void>): JobEngine =>
    createJobEngine({
      queueSchema,
      logger,
      onOffer,
      createPool: (silenceMs) => openPgPool(config.database, 3, silenceMs),
    })

  async function start() {
    const sql = connect(config.database, config.workerConnections, config.leaseMs * SILENCE_OF_LEASE)
    const upkeepSql = connect(config.database, 1, UPKEEP_SILENCE_MS)
    const { retention } = config
    const expirer = createDeliveryExpirer({ sql, schema, lifecycle, waitingMs: retention.waitingMs })
    const server = new LaneServer({
      sql,
      schema,
      expirer,
      configs: createEndpointConfigs(sql, schema, config.keyring, clock),
      schedule: createRetrySchedule({
        schedule: config.retrySchedule,
        byEventType: config.retrySchedules,
        random,
      }),
      attempt: {
        transport,
        clock,
        userAgent: `Posthaste/${VERSION}`,
        deadlineMs: config.deadlineMs,
        keepResponses: config.keepResponses,
        ed25519Keys: config.ed25519.sign,
      },
      clock,
      loops,
      logger,
      lifecycle,
      concurrency: config.concurrency,
      endpointConcurrency: config.endpointConcurrency,
      idlePollMs: config.idlePollMs,
      token: () => keeper.token(),
      leaseCovers: (ms) => keeper.lease.covers(ms),
      onFenced: () => keeper.reportFenced(),
      nudge: () => dispatcher.nudge(),
    })
    const keeper = createLaneKeeper({
      store: createLaneStore(sql, schema, config.installation),
      holder: server,
      clock,
      loops,
      logger,
      workerName: name,
      version: VERSION,
      leaseMs: config.leaseMs,
      onRefused: () => gate.refuse(),
      onChange: () => lifecycle.raise('lanes.changed', { lanes: keeper.owned() }),
    })
    const offers = config.jobEngine ? createLaneOffers({ sql, schema, queueSchema, clock }) : null
    const dispatcher = createDispatcher({
      sql,
      schema,
      installation: config.installation,
      loops,
      logger,
      leads: () => keeper.owned().includes(LEADING_LANE),
      onLooked: (n) => server.sawNewest(n),
      onDispatched: (step) => {
        server.wake()
        if (keeper.owned().length < LANE_COUNT) reconciler?.wake()
        if (step.events > 0 && lifecycle.heard('events.dispatched')) {
          lifecycle.raise('events.dispatched', { events: step.events, deliveries: step.deliveries })
        }
      },
    })
    const engine = config.jobEngine ? engineOf((lane) => keeper.claim(lane)) : null
    const upkeep = createLogUpkeep(sql, schema)
    const partitions = createPartitionUpkeep({ sql: upkeepSql, schema, clock, logger, lifecycle, retention })
    const held = createHeldExpiry(sql, schema, clock, expirer)
    const rollup = createAttemptRollup(sql, schema, clock)
    const replays = createReplayRunner({
      sql,
      schema,
      loops,
      logger,
      lanes: () => keeper.owned(),
      onHanded: () => dispatcher.nudge(),
    })
    let reconciler: BackgroundLoop | null = null
    let upkeepLoop: BackgroundLoop | null = null
    const stop = async () => {
      // A server that does not answer must not hold the end up.
      hurryConnections(sql, STOP_SILENCE_MS)
      hurryConnections(upkeepSql, STOP_SILENCE_MS)
      await Promise.all([reconciler?.stop(), upkeepLoop?.stop(), replays.stop(), dispatcher.stop(), engine?.stop()])
      server.beginStop()
      await keeper.stop()
      await server.stop()
      await Promise.all([sql.end({ timeout: 5 }), upkeepSql.end({ timeout: 5 })])
    }
    try {
      server.start()
      await keeper.start()
      await engine?.start()
      dispatcher.start()
      replays.start()
      if (offers !== null) {
        reconciler = loops.start({
          name: 'reconciling',
          logger,
          step: async () => {
            await offers.offerIdle()
            return RECONCILE_EVERY_MS
          },
        })
      }
      if (maintains) {
        upkeepLoop = loops.start({
          name: 'log upkeep',
          logger,
          step: async () => {
            await upkeep.run()
            if (!keeper.owned().includes(LEADING_LANE)) return UPKEEP_EVERY_MS
            await rollup.run()
            await held.run()
            return (await partitions.run()) ? UPKEEP_AGAIN_MS : UPKEEP_EVERY_MS
          },
        })
      }
    } catch (error) {
      await stop().catch(() => {})
      throw error
    }
    return {
      nudge: () => dispatcher.nudge(),
      wakeReplays: () => replays.wake(),
      atRest: () => server.atRest(),
      stop,
    }
  }

  const gate = createGate({
    check: refusal,
    begin: async () => {
      running = await start()
    },
    end: async () => {
      const before = running
      running = null
      await before?.stop()
    },
    loops,
    logger,
    lifecycle,
  })

  return {
    nudge: () => running?.nudge(),
    lookAgain: () => gate.look(),
    wakeReplays: () => running?.wakeReplays(),
    atRest: async () => (await running?.atRest()) ?? false,
    migrateEngine: async () => {
      if (config.jobEngine) await engineOf(async () => {}).migrate()
    },
    async start() {
      if (state === 'stopped')
        throw new PosthasteError('STOPPED', 'This object was stopped: make another with createWebhooks().')
      if (state === 'started') throw new PosthasteError('ALREADY_STARTED', 'start() was called before on this object.')
      state = 'started'
      try {
        await gate.open()
      } catch (error) {
        state = 'new'
        throw error
      }
    },
    async stop() {
      state = 'stopped'
      await gate.close()
    },
  }
}
