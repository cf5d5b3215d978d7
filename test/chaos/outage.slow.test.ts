/** A server that crashes and comes back, and one that does not while a worker ends. Slow: it waits for real limits. */
import { createWebhooks } from '@posthaste/core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startPostgres } from '../support/embedded-postgres.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { withTestOptions } from '../support/webhooks-under-test.ts'
import { killWorkerProcesses, startWorkerProcess } from '../support/worker-process.ts'

let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.close())

test('a crash: what was committed is delivered when it is back; stopping while it is away ends', async () => {
  const server = await startPostgres()
  try {
    const options = { http: { deadline: '3s' }, worker: { lease: '5s' } } as const
    const webhooks = createWebhooks(withTestOptions(server.url, options))
    await webhooks.migrate()
    const path = '/outage'
    await webhooks.endpoints.create('default', { url: receiver.url(path), events: ['test.happened'] })
    const worker = await startWorkerProcess(server.url, options)
    await worker.order({ do: 'start' })
    for (let n = 1; n <= 50; n++) await webhooks.emit('test.happened', { n }, { tx: 'own' })
    await server.kill()
    await expect(webhooks.emit('test.happened', { n: 0 }, { tx: 'own' })).rejects.toThrow()
    await new Promise((resolve) => setTimeout(resolve, 1_500))
    await server.restart()
    await until('an emit to succeed again', async () =>
      webhooks.emit('test.happened', { n: 51 }, { tx: 'own' }).then(
        () => true,
        () => false,
      ),
    )
    await until('everything to arrive', () => {
      const seen = new Set(receiver.requests(path).map(({ data }) => data.n))
      return Array.from({ length: 51 }, (_, index) => index + 1).every((n) => seen.has(n))
    })
    expect(worker.unhandled).toEqual([])
    // A request whose record can never be written, and no database to give lanes back to.
    receiver.answer(path, () => new Promise((resolve) => setTimeout(resolve, 300, 200)))
    await webhooks.emit('test.happened', { n: 52 }, { tx: 'own' })
    await until('the next request', () => receiver.requests(path).some(({ data }) => data.n === 52))
    await server.kill()
    const stoppedAt = performance.now()
    await worker.order({ do: 'stop' }, 20_000)
    expect(await worker.finish(10_000)).toBe(0)
    expect(performance.now() - stoppedAt).toBeLessThan(20_000)
    expect(worker.unhandled).toEqual([])
    await webhooks.stop()
  } finally {
    await killWorkerProcesses()
    await server.stop()
  }
}, 60_000)
