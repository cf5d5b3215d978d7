/** Rotation and reading of secrets, the catalogue and the API's own description, over every adapter. */
import { Validator } from '@seriousme/openapi-schema-validator'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { affiliateEvents } from '../../packages/core/src/catalog/affiliate-events.ts'
import { verifyWebhook } from '../../packages/core/src/receiver.ts'
import { type Adapter, adapters, type Mounted } from './adapters.ts'
import { call } from './client.ts'
import { freshAccount, startTestApi, type TestApi } from './management-api.ts'

let api: TestApi
const rawPublicKey = () => Buffer.from(api.publicKey.slice(5), 'base64').toString('base64url')
beforeAll(async () => {
  api = await startTestApi()
})
afterAll(() => api.stop())

const BODY = { url: 'https://your-app.com/hooks', events: ['*'], secret: 'the first secret' }

describe.each(adapters)('$name', (adapter: Adapter) => {
  let mounted: Mounted
  beforeAll(async () => {
    mounted = await adapter.mount(api, { prefix: '/hooks' })
  })
  afterAll(() => mounted.close())

  test('rotate-secret: generated without a body, given with one; shown in the answer and by GET secret', async () => {
    const account = freshAccount()
    const { json: created } = await call(mounted, 'POST', '/', { account, body: BODY })
    const generated = await call(mounted, 'POST', `/${created.id}/rotate-secret`, { account })
    expect(generated.status).toBe(200)
    expect(generated.json).toMatchObject({ id: created.id, secret: expect.stringMatching(/^whsec_/) })

    const body = { secret: 'the third secret', overlap_seconds: 60 }
    const given = await call(mounted, 'POST', `/${created.id}/rotate-secret/`, { account, body })
    expect([given.status, given.json.secret]).toEqual([200, 'the third secret'])

    const shown = await call(mounted, 'GET', `/${created.id}/secret`, { account })
    expect([shown.status, shown.json]).toEqual([
      200,
      {
        secret: 'the third secret',
        standard_webhooks_secret: `whsec_${Buffer.from('the third secret').toString('base64')}`,
      },
    ])
    const refused = await call(mounted, 'POST', `/${created.id}/rotate-secret`, {
      account,
      body: { overlap_seconds: 700_000, more: 1 },
    })
    expect([refused.status, refused.json.errors.map(({ path }) => path)]).toEqual([422, ['overlap_seconds', '']])
  })

  test('secrets appear nowhere else', async () => {
    const account = freshAccount()
    const { json: created } = await call(mounted, 'POST', '/', {
      account,
      body: { ...BODY, headers: { 'X-A': 'hush-hush' } },
    })
    const answers = [
      await call(mounted, 'GET', '/', { account }),
      await call(mounted, 'GET', `/${created.id}`, { account }),
      await call(mounted, 'PATCH', `/${created.id}`, { account, body: { secret: 'the second secret' } }),
      await call(mounted, 'PUT', `/${created.id}`, { account, body: { ...BODY, headers: { 'x-a': '***' } } }),
    ]
    for (const { status, text } of answers) {
      expect(status).toBe(200)
      expect(text).not.toMatch(/hush|the (first|second) secret|whsec_/)
    }
  })

  test('jwks.json is public, may be kept for a while, and holds the key that verifies what is sent', async () => {
    const { status, headers, json } = await call(mounted, 'GET', '/jwks.json')
    expect([status, headers.get('content-type')]).toEqual([200, 'application/json'])
    expect(headers.get('cache-control')).toBe('public, max-age=300')
    const { keys } = json as unknown as { keys: { x: string }[] }
    expect(keys).toEqual([
      { kty: 'OKP', crv: 'Ed25519', x: rawPublicKey(), kid: expect.any(String), use: 'sig', alg: 'EdDSA' },
    ])
    expect((await call(mounted, 'HEAD', '/jwks.json/')).status).toBe(200)
    expect((await call(mounted, 'POST', '/jwks.json', { body: {} })).status).toBe(405)

    const account = freshAccount()
    const { json: created } = await call(mounted, 'POST', '/', { account, body: BODY })
    await call(mounted, 'POST', `/${created.id}/test`, { account, body: {} })
    const sent = api.sent.at(-1)!
    const event = await verifyWebhook(sent.body, Object.fromEntries(sent.headers), [], { publicKeys: keys })
    expect(event.event).toBe('affiliate.created')
  })

  test('event-types: name, description, trigger, JSON Schema and example', async () => {
    const { status, json } = await call(mounted, 'GET', '/event-types', { account: freshAccount() })
    expect(status).toBe(200)
    expect(json.data.map((type) => (type as unknown as { name: string }).name)).toEqual(affiliateEvents.types)
    expect(json.data[4]).toMatchObject({
      name: 'commission.approved',
      description: 'Commission approved for payout',
      trigger: 'Admin approves commission',
      schema: { type: 'object', properties: { commission_id: { type: 'integer' } } },
      example: { commission_id: 123, amount: 85.5 },
    })
  })

  test('openapi.json is valid OpenAPI 3.1, served where the API is', async () => {
    const { status, json } = await call(mounted, 'GET', '/openapi.json', { account: freshAccount() })
    expect(status).toBe(200)
    const document = json as unknown as Record<string, Record<string, unknown>>
    expect(document).toMatchObject({ openapi: '3.1.0', servers: [{ url: '/hooks' }] })
    expect(await new Validator().validate(structuredClone(document))).toMatchObject({ valid: true })
    expect(Object.keys(document.webhooks ?? {})).toEqual(affiliateEvents.types)
  })
})
