/** Deliveries through the host's own proxy: what its failures mean for endpoints, schedules and operators. */
import type { HttpOptions } from '@posthaste/core'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type ConnectProxy, startConnectProxy } from '../support/connect-proxy.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { type UnderTest, underTest } from '../support/webhooks-under-test.ts'

const DAY = 86_400_000

let proxy: ConnectProxy
let receiver: Receiver
let host: UnderTest | undefined
beforeEach(async () => {
  proxy = await startConnectProxy()
  receiver = await startReceiver()
})
afterEach(async () => {
  await host?.stop()
  await receiver.close()
  await proxy.stop()
})

async function started(http: HttpOptions): Promise<UnderTest> {
  host = await underTest({ retrySchedule: ['1s', '1h', '1h'], http })
  await host.webhooks.start()
  return host
}

interface AttemptRow {
  number: number
  step: number | null
  error: string | null
  detail: string | null
}

const attempts = async (one: UnderTest, id: string): Promise<AttemptRow[]> =>
  await one.sql`select number, step, error, detail from posthaste.attempts
    where endpoint = ${await one.numberOf(id)} order by at, number`

const status = async (one: UnderTest, id: string) => (await one.webhooks.endpoints.get('default', id)).status

test('a proxy that is down holds deliveries: no step is used, no endpoint suffers, all arrive when it is back', {
  timeout: 60_000,
}, async () => {
  const one = await started({ proxy: { url: proxy.url.replace('://', '://user:hunter2@') } })
  const seen: [string, object][] = []
  one.webhooks.events.on('proxy.degraded', (event) => seen.push(['degraded', event]))
  one.webhooks.events.on('proxy.recovered', (event) => seen.push(['recovered', event]))
  one.webhooks.events.on('endpoint.degraded', (event) => seen.push(['endpoint.degraded', event]))
  await proxy.stop()
  const endpoints = await Promise.all(['/a', '/b'].map((path) => one.endpoint(receiver.url(path))))
  const numbers = Array.from({ length: 30 }, (_, n) => n)
  await one.emit(...numbers)
  await until('three probes to fail', () => seen.length >= 4, 40_000)
  expect(seen[0]).toEqual(['degraded', { errorCode: 'PROXY_FAILED', message: expect.any(String), retryInMs: 1_000 }])
  for (const { id } of endpoints) expect(await status(one, id)).toBe('active')
  // Those under way when it went down, and probes since: most have not been attempted at all.
  const before = (await Promise.all(endpoints.map(({ id }) => attempts(one, id)))).flat()
  expect(before.length).toBeLessThan(40)
  expect(before.every(({ error, step }) => error === 'PROXY_FAILED' && (step === 0 || step === 1))).toBe(true)
  // Those that found out used a step; probes that failed again used none.
  expect(before.length).toBeGreaterThan(3)
  expect(await one.sql`select max(step)::int step from posthaste.retries`).toEqual([{ step: 1 }])
  await proxy.restart()
  await until(
    'all to arrive',
    () => ['/a', '/b'].every((path) => new Set(receiver.requests(path).map(({ eventId }) => eventId)).size === 30),
    40_000,
  )
  await until('the news of it', () => seen.at(-1)?.[0] === 'recovered')
  expect(seen.some(([name]) => name === 'endpoint.degraded')).toBe(false)
  expect(JSON.stringify(seen) + one.log.join('\n')).not.toMatch(/hunter2|dXNlc/)
  expect(one.log.some((line) => line.includes('the proxy is down'))).toBe(true)
})

test('what does not go through the proxy is not held with it', async () => {
  // The receiver is reached under its address, which is not the proxy's affair.
  const one = await started({ proxy: { url: proxy.url, noProxy: ['127.0.0.1'] } })
  await proxy.stop()
  const { id } = await one.endpoint(receiver.url('/direct'))
  const down = await one.endpoint('http://127.0.0.9:1/')
  let degraded = false
  one.webhooks.events.on('proxy.degraded', () => {
    degraded = true
  })
  await one.emit(1, 2, 3, 4, 5)
  await until('the proxy to be found down', () => degraded)
  await one.emit(6)
  await receiver.received('/direct', 6)
  expect(await status(one, id)).toBe('active')
  expect(await status(one, down.id)).toBe('active')
})

describe('one that answers', () => {
  test('with a refusal: each attempt says so, by the schedule, and the endpoint stays as it is', async () => {
    proxy.options.allow = []
    const one = await started({ proxy: proxy.url })
    const { id } = await one.endpoint(receiver.url('/'))
    await one.emit(1, 2, 3, 4, 5, 6)
    await one.settled()
    await one.moveTime(6 * DAY)
    await until('a second attempt of each', async () => (await attempts(one, id)).length >= 12)
    const rows = await attempts(one, id)
    expect(new Set(rows.map(({ error }) => error))).toEqual(new Set(['PROXY_REFUSED']))
    expect(rows[0]?.detail).toContain('allow-list')
    expect(rows.filter(({ step }) => step === 1)).toHaveLength(6)
    expect(await status(one, id)).toBe('active')
    expect(receiver.requests()).toEqual([])
  })

  test('that it cannot reach the receiver: the endpoint is backed off, and not disabled for it', async () => {
    const one = await started({ proxy: proxy.url })
    const { id } = await one.endpoint('http://127.0.0.9:1/')
    await one.emit(1, 2, 3, 4, 5, 6)
    await until('the endpoint to be backed off', async () => (await status(one, id)) === 'degraded')
    await one.moveTime(6 * DAY)
    const before = (await attempts(one, id)).length
    await until('a probe', async () => (await attempts(one, id)).length > before, 40_000)
    expect((await attempts(one, id)).at(-1)).toMatchObject({ error: 'PROXY_GATEWAY_FAILED' })
    await until('it to be backed off again', async () => (await status(one, id)) === 'degraded')
  }, 60_000)
})

test('a test send and the creation of an endpoint go the same way', async () => {
  Object.assign(proxy.options, { hosts: { 'partner.test': '127.0.0.1' }, allow: ['partner.test'] })
  const port = new URL(receiver.url()).port
  // Inside, the name leads elsewhere, or nowhere.
  let asked = 0
  const lookup = async () => {
    asked++
    return [{ address: '10.0.0.1', family: 4 }]
  }
  const one = await started({ lookup, proxy: { url: proxy.url, resolve: 'proxy' } })
  const { id } = await one.endpoint(`http://partner.test:${port}/hook`)
  const sent = await one.webhooks.deliveries.sendTest('default', id, {})
  expect(sent).toMatchObject({ outcome: 'succeeded', status_code: 200 })
  await expect(one.endpoint('http://10.0.0.1/')).rejects.toMatchObject({ code: 'URL_REFUSED' })
  const refused = await one.endpoint(`http://other.test:${port}/hook`)
  expect(await one.webhooks.deliveries.sendTest('default', refused.id, {})).toMatchObject({
    error_code: 'PROXY_REFUSED',
  })
  expect(asked).toBe(0)
})
