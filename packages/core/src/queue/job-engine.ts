import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Runner } from 'graphile-worker'
import type { Pool } from 'pg'
import { PosthasteError } from '../errors.ts'
import { errorFields, type Logger } from '../logger.ts'
import { breakConnections } from '../storage/pg-pool.ts'
import { OFFER_TASK } from './lane-offers.ts'

export interface JobEngineOptions {
  /** Opens the engine's own small pool of node-postgres connections, for migrations one that waits for as long as they take. */
  createPool(silenceMs?: number): Promise<Pool>
  queueSchema: string
  logger: Logger
  /** A job offers this lane. */
  onOffer(lane: number): Promise<void>
}

/** graphile-worker, started in this process and started again when it fails. */
export interface JobEngine {
  /** Creates or updates the engine's tables, in a schema of our own. */
  migrate(): Promise<void>
  start(): Promise<void>
  stop(): Promise<void>
}

const RESTART_AFTER_MS = 1_000
const LONGEST_RESTART_MS = 30_000
/** Then its connections are broken: a server that does not answer must not hold the end up. */
const CLOSE_WITHIN_MS = 3_000

export function createJobEngine({ createPool, queueSchema, logger, onOffer }: JobEngineOptions): JobEngine {
  let pool: Pool | null = null
  let runner: Runner | null = null
  let stopped = false
  let restartMs = RESTART_AFTER_MS
  let timer: NodeJS.Timeout | null = null

  async function run(): Promise<void> {
    const { run: runWorker, Logger: EngineLogger } = await loadEngine()
    pool = await createPool()
    // Without a listener an idle connection that breaks ends the process.
    const onBroken = (error: Error) =>
      logger.debug('posthaste: a connection of the job engine broke', errorFields(error))
    pool.on('error', onBroken)
    pool.on('connect', (client) => void client.on('error', onBroken))
    runner = await runWorker({
      pgPool: pool,
      schema: queueSchema,
      concurrency: 2,
      noHandleSignals: true,
      noPreparedStatements: true,
      pollInterval: 2_000,
      parsedCronItems: [],
      logger: new EngineLogger(() => (level, message) => {
        if (level === 'error' || level === 'warning') logger.debug(`posthaste: job engine: ${message}`)
      }),
      preset: { worker: { completeJobBatchDelay: 0, gracefulShutdownAbortTimeout: 2_000 } },
      taskList: {
        // Tasks never throw: an offer that nobody took is made again by the reconciler.
        [OFFER_TASK]: async (payload) => {
          const lane = (payload as { lane?: unknown } | null)?.lane
          if (typeof lane !== 'number') return
          await onOffer(lane).catch((error: unknown) => {
            logger.debug('posthaste: an offered lane could not be taken', errorFields(error))
          })
        },
      },
    })
    restartMs = RESTART_AFTER_MS
    // Its promise ends with the runner: rejected when it failed for good.
    runner.promise.then(
      () => again('it ended'),
      (error: unknown) => again(error),
    )
  }

  function again(reason: unknown): void {
    if (stopped || timer !== null) return
    logger.warn('posthaste: the job engine stopped; delivery goes on without it', errorFields(reason))
    timer = setTimeout(() => {
      timer = null
      void close()
        .then(run)
        .catch((error: unknown) => {
          restartMs = Math.min(restartMs * 2, LONGEST_RESTART_MS)
          again(error)
        })
    }, restartMs)
  }

  async function close(): Promise<void> {
    const [endedRunner, endedPool] = [runner, pool]
    runner = null
    pool = null
    if (endedPool === null) return
    const broken = setInterval(() => breakConnections(endedPool), CLOSE_WITHIN_MS)
    await endedRunner?.stop().catch(() => {})
    await endedPool.end().catch(() => {})
    clearInterval(broken)
    breakConnections(endedPool)
  }

  return {
    async migrate() {
      const { runMigrations } = await loadEngine()
      const migrationPool = await createPool(Number.POSITIVE_INFINITY)
      try {
        await runMigrations({ pgPool: migrationPool, schema: queueSchema })
      } finally {
        await migrationPool.end()
      }
    },
    async start() {
      stopped = false
      await run()
    },
    async stop() {
      stopped = true
      if (timer !== null) clearTimeout(timer)
      timer = null
      await close()
    },
  }
}

/**
 * Loads graphile-worker when it is needed (70 ms, 19 MB). Its import ends the process where the working directory's
 * package.json has a `graphile-worker` key, so that is looked at first.
 */
async function loadEngine(): Promise<typeof import('graphile-worker')> {
  const path = join(process.cwd(), 'package.json')
  if (existsSync(path)) {
    let manifest: unknown
    try {
      manifest = JSON.parse(readFileSync(path, 'utf8'))
    } catch {
      manifest = null
    }
    if (typeof manifest === 'object' && manifest !== null && 'graphile-worker' in manifest) {
      throw new PosthasteError(
        'QUEUE_UNAVAILABLE',
        `graphile-worker refuses to load where package.json has a "graphile-worker" key: move it out of ${path} into a graphile.config.js.`,
      )
    }
  }
  return await import('graphile-worker')
}
