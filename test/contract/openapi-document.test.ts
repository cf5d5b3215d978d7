/** That the OpenAPI document is enough to generate a client from and to read: what it says of requests holds when they are made. */
import { Validator } from '@seriousme/openapi-schema-validator'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { adapters, type Mounted } from './adapters.ts'
import { call } from './client.ts'
import { seedEvent } from './delivery-log.ts'
import { freshAccount, startTestApi, type TestApi, type TestApiOptions } from './management-api.ts'

interface Parameter {
  name: string
  in: string
  description?: string
  schema: { pattern?: string; description?: string }
}

interface Operation {
  operationId: string
  summary: string
  tags: string[]
  security?: Record<string, string[]>[]
  parameters?: Parameter[]
  requestBody?: { required: boolean; content: Record<string, { example?: unknown }> }
  responses: Record<string, { headers?: Record<string, { description: string }> }>
}

interface Document {
  tags: { name: string; description?: string }[]
  security: Record<string, string[]>[]
  paths: Record<string, { parameters?: Parameter[] } & Record<string, Operation>>
  components: { securitySchemes: Record<string, unknown> }
}

interface Described {
  method: string
  path: string
  idParameter: Parameter | undefined
  operation: Operation
}

let api: TestApi
let mounted: Mounted
beforeAll(async () => {
  api = await startTestApi()
  mounted = await adapter().mount(api, { prefix: '/hooks' })
})
afterAll(() => api.stop())

const adapter = () => adapters.find(({ framework }) => !framework)!

async function documentOf(from: Mounted): Promise<Document> {
  return (await call(from, 'GET', '/openapi.json', { account: freshAccount() })).json as unknown as Document
}

async function operations(): Promise<Described[]> {
  const { paths } = await documentOf(mounted)
  return Object.entries(paths).flatMap(([path, { parameters, ...item }]) =>
    Object.entries(item as Record<string, Operation>).map(([method, operation]) => ({
      method: method.toUpperCase(),
      path,
      idParameter: parameters?.[0],
      operation,
    })),
  )
}

async function withSchemes(options: TestApiOptions): Promise<Document> {
  const other = await startTestApi(options)
  try {
    return await documentOf(await adapter().mount(other, { prefix: '' }))
  } finally {
    await other.stop()
  }
}

test('it says how to authenticate: with a bearer token, or as the host says; the public keys are for anyone', async () => {
  const document = await documentOf(mounted)
  expect([document.security, document.components.securitySchemes]).toEqual([
    [{ bearer: [] }],
    { bearer: { type: 'http', scheme: 'bearer' } },
  ])
  for (const { path, operation } of await operations()) {
    expect([path, operation.security]).toEqual([path, path === '/jwks.json' ? [] : undefined])
  }
  const securitySchemes = {
    session: { type: 'apiKey', in: 'cookie', name: 'sid' },
    key: { type: 'apiKey', in: 'header', name: 'X-Api-Key' },
  } as const
  const own = await withSchemes({ securitySchemes })
  expect([own.security, own.components.securitySchemes]).toEqual([[{ session: [] }, { key: [] }], securitySchemes])
  expect(await new Validator().validate(structuredClone(own) as never)).toMatchObject({ valid: true })
})

test('every operation has a name of its own and a summary, every tag and parameter a description', async () => {
  const { tags } = await documentOf(mounted)
  const all = await operations()
  expect(new Set(all.map(({ operation }) => operation.operationId)).size).toBe(all.length)
  for (const { name, description } of tags) expect([name, description]).toEqual([name, expect.stringMatching(/\.$/)])
  for (const { operation, idParameter } of all) {
    expect(operation.summary).not.toBe('')
    const parameters = [...(operation.parameters ?? []), ...(idParameter === undefined ? [] : [idParameter])]
    for (const { name, description, schema } of parameters) {
      expect([operation.operationId, name, description]).toEqual([operation.operationId, name, expect.any(String)])
      expect(schema.description).toBeUndefined()
    }
  }
})

test('ids in paths are as it says, examples of bodies are taken, and headers that it promises are there', async () => {
  const account = freshAccount()
  const promised: string[] = []
  for (const { method, path, idParameter, operation } of await operations()) {
    const { json: endpoint } = await call(mounted, 'POST', '/', {
      account,
      body: { url: 'https://your-app.com/hooks', events: ['*'], headers: { 'X-Api-Key': '1' } },
    })
    const id = idParameter === undefined ? '' : await idFor(path, account, endpoint.id)
    if (idParameter !== undefined) expect(id).toMatch(new RegExp(idParameter.schema.pattern!))
    const example = operation.requestBody?.content['application/json']?.example
    // All but a test, whose example would have to be an event type of the host's.
    if (operation.requestBody !== undefined && path !== '/{id}/test')
      expect([path, example]).not.toEqual([path, undefined])
    const answer = await call(mounted, method, path.replace('{id}', id), {
      account,
      ...(method === 'POST' ? { headers: { 'idempotency-key': `${operation.operationId}-${account}` } } : {}),
      ...(example === undefined ? {} : { body: example }),
    })
    expect([operation.operationId, answer.status < 300]).toEqual([operation.operationId, true])
    for (const name of Object.keys(operation.responses[answer.status]?.headers ?? {})) {
      promised.push(`${operation.operationId} ${name}`)
      // It is the first time.
      if (name !== 'Idempotency-Replayed')
        expect([operation.operationId, answer.headers.has(name)]).toEqual([operation.operationId, true])
    }
    // And none is kept silent about.
    if (answer.headers.has('location')) expect(promised).toContain(`${operation.operationId} Location`)
    await call(mounted, 'DELETE', `/${endpoint.id}`, { account })
  }
  expect(promised.toSorted()).toEqual([
    'createEndpoint Idempotency-Replayed',
    'createEndpoint Location',
    'retryDelivery Idempotency-Replayed',
    'rotateSecret Idempotency-Replayed',
    'startReplay Idempotency-Replayed',
    'startReplay Location',
  ])
})

test('errors carry the headers that it promises of them', async () => {
  const { operation } = (await operations()).find(({ path }) => path === '/')!
  const refused = await call(mounted, 'GET', '/', {})
  expect(Object.keys(operation.responses['401']?.headers ?? {})).toEqual(['WWW-Authenticate'])
  expect(refused.headers.has('www-authenticate')).toBe(true)
  // That 503 answers have it is in unavailable.test.ts.
  expect(Object.keys(operation.responses['503']?.headers ?? {})).toEqual(['Retry-After'])
})

/** Of something that exists, by the first segment of the path. */
async function idFor(path: string, account: string, endpoint: string): Promise<string> {
  if (path.startsWith('/events/')) return await seedEvent(api.sql, account, 'commission.approved')
  if (path.startsWith('/deliveries/')) {
    await seedEvent(api.sql, account, 'commission.approved')
    return (await api.deliveries.list(account, endpoint)).data[0]!.id
  }
  if (path.startsWith('/replays/')) {
    return (await api.replays.start(account, endpoint, { since: '2020-01-01T00:00:00Z', which: 'all' })).id
  }
  return endpoint
}
