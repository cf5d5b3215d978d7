/** Whatever is called in whatever order: never a 5xx, and never anything but 404 for another account's ids. */
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { affiliateEvents } from '../../packages/core/src/catalog/affiliate-events.ts'
import { adapters, type Mounted } from '../contract/adapters.ts'
import { type Answer, call } from '../contract/client.ts'
import { freshAccount, startTestApi, type TestApi } from '../contract/management-api.ts'
import { PROPERTY_TIMEOUT, propertyRuns } from '../support/property-runs.ts'

let api: TestApi
let mounted: Mounted
beforeAll(async () => {
  api = await startTestApi({ maxEndpointsPerAccount: 4 })
  const adapter = adapters.find(({ framework }) => !framework)
  if (adapter === undefined) throw new Error('no fetch handler among the adapters')
  mounted = await adapter.mount(api, { prefix: '' })
})
afterAll(() => api.stop())

const patterns = fc.constantFrom(...affiliateEvents.types, '*', 'commission.*', 'payout.*')
const text = fc.string({ unit: 'grapheme', maxLength: 40 })
const members = {
  url: fc.webUrl({ validSchemes: ['https'], withQueryParameters: true }),
  events: fc.array(patterns, { minLength: 1, maxLength: 6 }),
}
const further = {
  secret: fc.string({ unit: fc.constantFrom(...'abc ÄΩ🎉_'), minLength: 8, maxLength: 60 }),
  active: fc.boolean(),
  description: fc.option(text),
  // Names that differ in nothing but case are one header twice, which is refused.
  headers: fc
    .uniqueArray(fc.tuple(fc.stringMatching(/^X-[A-Za-z]{1,8}$/), fc.stringMatching(/^[a-z0-9]{0,9}$/)), {
      maxLength: 4,
      selector: ([name]) => name.toLowerCase(),
    })
    .map(Object.fromEntries),
  metadata: fc.dictionary(fc.stringMatching(/^[a-z]{1,9}$/), text, { maxKeys: 4 }),
  ordering: fc.constantFrom('none', 'fifo'),
  max_concurrency: fc.option(fc.integer({ min: 1, max: 1000 })),
  rate_limit: fc.option(
    fc.record({ limit: fc.integer({ min: 1, max: 9999 }), per: fc.constantFrom('second', 'minute') }),
  ),
}
const whole = fc.record({ ...members, ...further }, { requiredKeys: ['url', 'events'] })
const some = fc.record({ ...members, ...further }, { requiredKeys: [] })

/** Which account calls, and which endpoint of all that were ever created it names. */
const who = fc.record({ account: fc.integer({ min: 0, max: 1 }), endpoint: fc.nat({ max: 9 }) })
const steps = fc.oneof(
  fc.record({ who, method: fc.constant('POST'), path: fc.constant('/'), body: whole }),
  fc.record({ who, method: fc.constantFrom('GET', 'HEAD', 'DELETE'), path: fc.constant('/{id}') }),
  fc.record({ who, method: fc.constant('PATCH'), path: fc.constant('/{id}'), body: some }),
  fc.record({ who, method: fc.constant('PUT'), path: fc.constant('/{id}'), body: whole }),
  fc.record({
    who,
    method: fc.constant('POST'),
    path: fc.constant('/{id}/rotate-secret'),
    body: fc.record(
      { secret: further.secret, overlap_seconds: fc.integer({ min: 0, max: 604_800 }) },
      { requiredKeys: [] },
    ),
  }),
  fc.record({ who, method: fc.constant('GET'), path: fc.constantFrom('/{id}/secret', '/?limit=2', '/?active=true') }),
)

interface Known {
  id: string
  owner: number
  secret: string
  deleted: boolean
}

test('no sequence of valid calls answers a 5xx, or anything of another account', {
  timeout: PROPERTY_TIMEOUT,
}, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(steps, { minLength: 1, maxLength: 14 }), async (sequence) => {
      const accounts = [freshAccount(), freshAccount()] as const
      const known: Known[] = []
      for (const step of sequence) {
        const { account, endpoint } = step.who
        const target = known.length === 0 ? undefined : known[endpoint % known.length]
        const usesId = step.path.includes('{id}')
        const path = step.path.replace('{id}', target?.id ?? 'ep_00000000000000000000000000000000')
        const body: Record<string, unknown> | undefined = 'body' in step ? step.body : undefined
        const answer = await call(mounted, step.method, path, {
          account: accounts[account === 0 ? 0 : 1],
          ...(body === undefined ? {} : { body }),
        })
        expect(answer.status).toBeLessThan(500)
        if (!usesId) {
          await checkOpen(answer, step.method, account, known)
        } else if (target === undefined || target.owner !== account || target.deleted) {
          expect(answer.status).toBe(404)
        } else {
          // A generated URL may be one that is refused.
          expect(body?.url === undefined ? [200, 204] : [200, 422]).toContain(answer.status)
          if (answer.status < 300) remember(target, step.method, body, answer)
        }
      }
      for (const { id, owner, secret, deleted } of known) {
        if (deleted) continue
        const shown = await call(mounted, 'GET', `/${id}/secret`, { account: accounts[owner === 0 ? 0 : 1] })
        expect(shown.json.secret).toBe(secret)
      }
    }),
    propertyRuns(60),
  )
  expect(api.log).toEqual([])

  async function checkOpen(answer: Answer, method: string, account: number, known: Known[]): Promise<void> {
    const own = known.filter(({ owner, deleted }) => owner === account && !deleted)
    if (method === 'GET') {
      expect(answer.status).toBe(200)
      for (const { id } of answer.json.data) expect(own.map((one) => one.id)).toContain(id)
    } else {
      // The limit is four.
      expect(own.length < 4 ? [201, 422] : [409, 422]).toContain(answer.status)
      if (answer.status === 201) {
        known.push({ id: answer.json.id, owner: account, secret: answer.json.secret, deleted: false })
      }
    }
  }

  function remember(target: Known, method: string, body: Record<string, unknown> | undefined, { json }: Answer): void {
    if (method === 'DELETE') target.deleted = true
    if (typeof body?.secret === 'string') target.secret = body.secret
    // The answers of rotations and of GET secret.
    if (json?.secret !== undefined) target.secret = json.secret
  }
})
