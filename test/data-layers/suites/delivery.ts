/** From an emit in a host's transaction to the receiver: migration, dispatch, lanes, retries, job engine, hand-over. */
import { createWebhooks } from '@posthaste/core'
import { expect, test } from 'vitest'
import { type Receiver, startReceiver } from '../../support/receiver.ts'
import { until } from '../../support/until.ts'
import {
  type TestOptions,
  type TestWebhooks,
  type testEvents,
  withTestOptions,
} from '../../support/webhooks-under-test.ts'
import type { DataLayer } from '../layers/data-layer.ts'
import type { Host } from './host.ts'

/**
 * @param database what Posthaste is given as its database
 * @param hostUrl what the host's own data layer is given
 */
export function describeDelivery(
  layers: readonly DataLayer[],
  host: () => Host,
  database: () => NonNullable<TestOptions['database']>,
  hostUrl: () => string,
): void {
  test('two workers deliver each event once, retry what failed, and one goes on alone', {
    timeout: 60_000,
  }, async () => {
    const receiver = await startReceiver()
    const log: string[] = []
    const note = (message: string, fields?: object) => void log.push(`${message} ${JSON.stringify(fields)}`)
    const logger = { debug() {}, info() {}, warn: note, error: note }
    const open = (): TestWebhooks =>
      createWebhooks<typeof testEvents>({
        ...withTestOptions('', { logger, retrySchedule: ['1s', '1s'], worker: { jobEngine: true } }),
        database: database(),
        schema: 'delivered',
        queueSchema: 'delivered_jobs',
      })
    const [one, two] = [open(), open()]
    try {
      await Promise.all([one.migrate(), two.migrate()])
      expect(await one.migrate()).toEqual([])
      const paths = ['/a', '/b', '/c', '/flaky']
      for (const path of paths) {
        await one.endpoints.create('default', { url: receiver.url(path), events: ['test.*'] })
      }
      failSome(receiver, '/flaky')
      await Promise.all([one.start(), two.start()])
      let n = 0
      const emitAll = async (webhooks: TestWebhooks) => {
        for (const layer of layers) {
          const opened = await layer.open(hostUrl(), 2)
          try {
            for (let times = 0; times < 5; times++) {
              await opened.transaction(async (scope) => {
                await webhooks.emit('test.happened', { n: ++n }, { tx: scope.tx })
                await webhooks.emitMany([{ type: 'test.seen', data: { n: ++n } }], { tx: scope.tx })
              })
            }
          } finally {
            await opened.close()
          }
        }
      }
      const counts = () => paths.map((path) => delivered(receiver, path).size)
      const arrived = async () => {
        await until('everything to arrive', () => counts().every((count) => count === n)).catch(() => {})
        expect(counts()).toEqual(paths.map(() => n))
      }
      await emitAll(one)
      await arrived()
      await one.stop()
      await emitAll(two)
      await arrived()
      for (const path of ['/a', '/b', '/c']) expect(receiver.requests(path)).toHaveLength(n)
      expect(receiver.requests('/flaky')).toHaveLength(n + Math.floor(n / 10))
      expect(log).toEqual([])
    } finally {
      await Promise.all([one.stop(), two.stop()])
      await receiver.close()
      await host().sql.unsafe('drop schema if exists delivered, delivered_jobs cascade')
    }
  })
}

/**
 * The first attempt at every tenth event is answered 500: never five in a row, after which the endpoint would be backed off
 * as a whole.
 */
function failSome(receiver: Receiver, path: string): void {
  receiver.answer(path, ({ attempt, data }) => (attempt === 1 && Number(data.n) % 10 === 0 ? 500 : 200))
}

/** The numbers that came and were accepted. */
function delivered(receiver: Receiver, path: string): Set<unknown> {
  const accepted = receiver
    .requests(path)
    .filter(({ attempt, data }) => path !== '/flaky' || attempt > 1 || Number(data.n) % 10 !== 0)
  return new Set(accepted.map(({ data }) => data.n))
}
