/** `webhooks.handler` as a host calls it by hand: what is missing is said by name, before anything is asked of the database. */
import { affiliateEvents, createWebhooks } from '@posthaste/core'
import { expect, test } from 'vitest'

const webhooks = createWebhooks({
  // Nobody listens there: a handler that asked the database would say so.
  database: 'postgres://nobody@127.0.0.1:1/nowhere',
  installation: 'test',
  events: affiliateEvents,
  secretKeys: { current: 'k', keys: { k: Buffer.alloc(32, 7) } },
})
const request = () => new Request('http://localhost/event-types')
const authorize = () => ({ account: 'default', permissions: ['read' as const] })

test.each<[what: string, context: object | undefined, missing: string]>([
  ['no context', undefined, 'mountPath'],
  ['no mountPath', { authorize }, 'mountPath'],
  ['no authorize', { mountPath: '' }, 'authorize'],
  ['an answer instead of a function', { mountPath: '', authorize: authorize() }, 'authorize'],
])('%s is refused with CONFIG_INVALID', async (_, context, missing) => {
  const answer = webhooks.handler(request(), context as never)
  await expect(answer).rejects.toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining(missing) })
})

test('with both it answers', async () => {
  const answer = await webhooks.handler(request(), { mountPath: '', frameworkRequest: null, authorize })
  expect(answer.status).toBe(200)
})
