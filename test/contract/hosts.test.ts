/** The API inside each framework's own world: hooks and middlewares around it, parameters in its prefix, odd settings. */
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { posthaste as posthasteExpress } from '@posthaste/express'
import { posthaste as posthasteFastify } from '@posthaste/fastify'
import { posthaste as posthasteKoa } from '@posthaste/koa'
import express from 'express'
import express4 from 'express4'
import fastify from 'fastify'
import fastify4 from 'fastify4'
import Koa from 'koa'
import mount from 'koa-mount'
import Koa2 from 'koa2'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { freshAccount, startTestApi, type TestApi } from './management-api.ts'

let api: TestApi
beforeAll(async () => {
  api = await startTestApi()
})
afterAll(() => api.stop())

const ALL = ['read', 'write', 'secrets', 'test', 'replay'] as const
const BODY = { url: 'https://your-app.com/hooks', events: ['*'] }

/** Serves for as long as `work` takes, and answers what it does. */
async function serving<T>(listener: RequestListener, work: (origin: string) => Promise<T>): Promise<T> {
  const server = createServer(listener)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    return await work(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

/** Creates at `url` and reads what `Location` names. */
async function createAndRead(
  origin: string,
  path: string,
): Promise<{ location: string; status: number; headers: Headers }> {
  const created = await fetch(`${origin}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(BODY),
  })
  expect(created.status).toBe(201)
  const location = created.headers.get('location') ?? ''
  const read = await fetch(`${origin}${location}`)
  expect(((await read.json()) as { id: string }).id).toBe(location.split('/').at(-1))
  return { location, status: read.status, headers: read.headers }
}

describe.each([
  ['Express 4', express4],
  ['Express 5', express],
])('%s', (_, create) => {
  test('a parameter in the prefix is the account, and middlewares run before', async () => {
    const app = create()
    app.use((_request, response, next) => {
      response.locals.shop = 'known'
      response.set('x-host', 'yes')
      next()
    })
    const router = create.Router({ mergeParams: true })
    router.use(
      '/hooks',
      posthasteExpress(api, {
        authorize: ({ params, res }) =>
          res?.locals.shop === 'known' ? { account: `express-${params.shop}`, permissions: ALL } : null,
      }),
    )
    app.use('/shops/:shop', router)
    await serving(app, async (origin) => {
      for (const shop of ['a', 'b%20c']) {
        const { location, status, headers } = await createAndRead(origin, `/shops/${shop}/hooks/`)
        expect([status, headers.get('x-host')]).toEqual([200, 'yes'])
        expect(location).toMatch(new RegExp(`^/shops/${shop}/hooks/ep_`))
      }
    })
    expect((await api.endpoints.list('express-b c')).data.length).toBeGreaterThan(0)
  })

  test('a URL that the host rewrites is the one that counts', async () => {
    const account = freshAccount()
    const app = create()
    app.use((request, _response, next) => {
      request.url = request.url.replace('/old/', '/new/')
      next()
    })
    app.use('/new', posthasteExpress(api, { authorize: () => ({ account, permissions: ALL }) }))
    await serving(app, async (origin) => {
      const answer = await fetch(`${origin}/old/?limit=1`)
      expect([answer.status, await answer.json()]).toEqual([200, { data: [], next_cursor: null }])
    })
  })
})

interface RouterOptions {
  ignoreTrailingSlash?: boolean
  caseSensitive?: boolean
}

describe.each([
  ['Fastify 4', (options: RouterOptions) => (fastify4 as unknown as typeof fastify)(options)],
  ['Fastify 5', (routerOptions: RouterOptions) => fastify({ routerOptions })],
])('%s', (_, create) => {
  test('hooks run around it, parameters may be in the prefix, inject works, and the parsers of the host stay', async () => {
    const seen: string[] = []
    const app = create({ ignoreTrailingSlash: true })
    app.decorateRequest('shop', '')
    app.addHook('onRequest', async (request) => {
      seen.push(`onRequest ${request.method}`)
    })
    app.addHook('onSend', async (_request, reply, payload) => {
      reply.header('x-host', 'yes')
      return payload
    })
    app.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, text, done) => {
      seen.push('parser of the host')
      done(null, { parsed: String(text) })
    })
    await app.register(
      posthasteFastify(api, {
        authorize: ({ params }) => ({ account: `fastify-${(params as { shop: string }).shop}`, permissions: ALL }),
      }),
      { prefix: '/shops/:shop/hooks' },
    )
    app.post('/host', async (request) => request.body)
    const headers = { 'content-type': 'application/json' }
    const created = await app.inject({ method: 'POST', url: '/shops/a%20b/hooks', headers, payload: BODY })
    expect([created.statusCode, created.headers['x-host']]).toEqual([201, 'yes'])
    expect(created.headers.location).toMatch(/^\/shops\/a%20b\/hooks\/ep_/)
    const head = await app.inject({ method: 'HEAD', url: created.headers.location as string })
    expect([head.statusCode, head.body]).toEqual([200, ''])
    expect(Number(head.headers['content-length'])).toBeGreaterThan(100)
    expect(seen).toEqual(['onRequest POST', 'onRequest HEAD'])
    const host = await app.inject({ method: 'POST', url: '/host', headers, payload: '{"a":1}' })
    expect(host.json()).toEqual({ parsed: '{"a":1}' })
    expect((await api.endpoints.list('fastify-a b')).data.length).toBeGreaterThan(0)
    await app.close()
  })

  test('a media type that it cannot parse is 415 of ours, and its routes in any case of letters are found', async () => {
    const account = freshAccount()
    const app = create({ caseSensitive: false })
    await app.register(posthasteFastify(api, { authorize: () => ({ account, permissions: ALL }) }), {
      prefix: '/hooks',
    })
    const list = await app.inject({ method: 'GET', url: '/HOOKS/' })
    expect([list.statusCode, list.json()]).toEqual([200, { data: [], next_cursor: null }])
    for (const type of ['nonsense', 'application/json;;', '/']) {
      const refused = await app.inject({
        method: 'POST',
        url: '/hooks',
        headers: { 'content-type': type },
        payload: '{}',
      })
      const { code } = refused.json<{ code: string }>()
      expect([type, refused.statusCode < 500, refused.headers['content-type']]).toEqual([
        type,
        true,
        'application/problem+json',
      ])
      expect(['UNSUPPORTED_MEDIA_TYPE', 'VALIDATION_FAILED']).toContain(code)
    }
    await app.close()
  })
})

describe.each([
  ['Koa 2', Koa2],
  ['Koa 3', Koa],
])('%s', (_, App) => {
  test('a parameter in the prefix, middlewares around it, and other paths go on', async () => {
    const app = new App()
    app.use(async (ctx, next) => {
      await next()
      ctx.set('x-host', String(ctx.status))
    })
    app.use(
      posthasteKoa(api, {
        prefix: '/shops/:shop/hooks',
        authorize: ({ path }) => ({ account: `koa-${path.split('/')[2]}`, permissions: ALL }),
      }),
    )
    app.use((ctx) => {
      ctx.body = 'the host'
    })
    await serving(app.callback(), async (origin) => {
      const { location, status, headers } = await createAndRead(origin, '/shops/x/hooks')
      expect([status, headers.get('x-host')]).toEqual([200, '200'])
      expect(location).toMatch(/^\/shops\/x\/hooks\/ep_/)
      for (const other of ['/', '/shops/x', '/shops/x/hooksy', '/shops//hooks']) {
        const answer = await (await fetch(`${origin}${other}`)).text()
        expect([other, answer]).toEqual([other, 'the host'])
      }
    })
  })

  test('koa-mount within koa-mount, and with a prefix of its own', async () => {
    const account = freshAccount()
    const authorize = () => ({ account, permissions: ALL })
    const app = new App()
    app.use(mount('/a', mount('/b', posthasteKoa(api, { authorize, prefix: '/c' }))))
    await serving(app.callback(), async (origin) => {
      for (const path of ['/a/b/c', '/a/b/c/']) {
        expect((await createAndRead(origin, path)).location).toMatch(/^\/a\/b\/c\/ep_/)
      }
      expect((await fetch(`${origin}/a/b`)).status).toBe(404)
    })
  })
})
