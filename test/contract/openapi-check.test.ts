/** That the check of answers against the OpenAPI document can fail. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { adapters, type Mounted } from './adapters.ts'
import { call } from './client.ts'
import { freshAccount, startTestApi, type TestApi } from './management-api.ts'
import { checkAnswer } from './openapi-check.ts'

let api: TestApi
let mounted: Mounted
beforeAll(async () => {
  api = await startTestApi()
  const adapter = adapters.find(({ framework }) => !framework)
  if (adapter === undefined) throw new Error('no fetch handler among the adapters')
  mounted = await adapter.mount(api, { prefix: '/hooks' })
})
afterAll(() => api.stop())

describe('checkAnswer', () => {
  test('refuses an answer with a wrong status, type, member or body', async () => {
    const account = freshAccount()
    const { json } = await call(mounted, 'POST', '/', { account, body: { url: 'https://a.example/', events: ['*'] } })
    const read = await call(mounted, 'GET', `/${json.id}`, { account })
    const good = { method: 'GET', path: `/${json.id}`, status: 200, contentType: 'application/json', json: read.json }
    await checkAnswer(mounted, good)
    await checkAnswer(mounted, { ...good, path: `/${json.id}/` })
    const { url: _, ...withoutUrl } = read.json as unknown as Record<string, unknown>
    for (const wrong of [
      { status: 418 },
      { contentType: 'text/html' },
      { json: withoutUrl },
      { json: { ...read.json, active: 'yes' } },
      { path: '/', json: { data: [withoutUrl], next_cursor: null } },
      { status: 404, contentType: 'application/problem+json' },
      { method: 'DELETE', status: 204 },
    ]) {
      await expect(checkAnswer(mounted, { ...good, ...wrong })).rejects.toThrow(/GET|DELETE/)
    }
  })
})
