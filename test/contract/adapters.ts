/** Every way in which a host can mount the API, behind one interface for the contract suites. */
import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import { bodyParser } from '@koa/bodyparser'
import { Router } from '@koa/router'
import { posthaste as posthasteExpress } from '@posthaste/express'
import { posthaste as posthasteFastify } from '@posthaste/fastify'
import { posthaste as posthasteKoa } from '@posthaste/koa'
import express from 'express'
import express4 from 'express4'
import fastify, { type FastifyError, type FastifyPluginCallback } from 'fastify'
import fastify4 from 'fastify4'
import { type Context, Hono } from 'hono'
import Koa from 'koa'
import mount from 'koa-mount'
import Koa2 from 'koa2'
import type { ManagementHandler } from '../../packages/core/src/api/index.ts'
import { authorizeToken } from './management-api.ts'

export interface MountOptions {
  /** Where the API is mounted, without a slash at its end; empty for the root. */
  prefix: string
  /** The host's own JSON parser, before ours. Default: none. */
  hostParser?: boolean
  /** Mounted on a router that the host mounts on another, each with a part of the prefix. */
  nested?: boolean
}

export interface Mounted {
  prefix: string
  /** `path` is what follows the origin. */
  fetch(path: string, init?: RequestInit): Promise<Response>
  /** For tests that write to the socket themselves; null where there is none. */
  port: number | null
  /** What reached the host's own error handler. */
  hostErrors: unknown[]
  close(): Promise<void>
}

export interface Adapter {
  name: string
  /** Whether a host has routers, error handlers and other routes around ours. */
  framework: boolean
  /**
   * What a JSON parser of the host's leaves for us: the parsed body, inflated where it was compressed; the same, but it takes no
   * compressed ones; or everything, as its parsers do not apply to our routes.
   */
  hostParsing: 'inflated' | 'plain' | 'none'
  mount(api: ManagementHandler, options: MountOptions): Promise<Mounted>
}

export const adapters: Adapter[] = [
  expressAdapter('Express 4', express4),
  expressAdapter('Express 5', express),
  fastifyAdapter('Fastify 4', fastify4 as unknown as typeof fastify),
  fastifyAdapter('Fastify 5', fastify),
  koaAdapter('Koa 2 with a prefix', Koa2, 'prefix'),
  koaAdapter('Koa 2 under koa-mount', Koa2, 'koa-mount'),
  koaAdapter('Koa 3 under koa-mount', Koa, 'koa-mount'),
  koaAdapter('Koa 3 under @koa/router', Koa, '@koa/router'),
  {
    name: 'fetch handler in Hono',
    framework: true,
    hostParsing: 'plain',
    async mount(api, { prefix, hostParser = false, nested = false }) {
      const app = new Hono()
      const hostErrors: unknown[] = []
      if (hostParser) {
        app.use(async (c, next) => {
          if (c.req.header('content-type')?.includes('json')) await c.req.json()
          await next()
        })
      }
      const answer = async (c: Context) => {
        // Hono keeps what one of its middlewares has read.
        const { raw } = c.req
        const request = raw.bodyUsed
          ? new Request(raw.url, { method: raw.method, headers: raw.headers, body: await c.req.arrayBuffer() })
          : raw
        return await api.handler(request, {
          mountPath: prefix,
          frameworkRequest: c,
          authorize: ({ req }) => authorizeToken(req.header('authorization')),
        })
      }
      const [outer, inner] = splitPrefix(prefix, nested)
      const routes = new Hono().all('/', answer).all('/*', answer)
      app.route(outer, inner === null ? routes : new Hono().route(inner, routes))
      app.post('/host/echo', async (c) => c.json(await c.req.json()))
      app.onError((error, c) => {
        hostErrors.push(error)
        return c.json({ host: 'error handler' }, 418)
      })
      return await listen(getRequestListener(app.fetch), prefix, hostErrors)
    },
  },
  {
    name: 'fetch handler',
    framework: false,
    hostParsing: 'none',
    async mount(api, { prefix }) {
      return {
        prefix,
        port: null,
        hostErrors: [],
        fetch: (path, init) => {
          const request = new Request(`http://host.example${path}`, init)
          return api.handler(request, {
            mountPath: prefix,
            frameworkRequest: request,
            authorize: ({ headers }) => authorizeToken(headers.get('authorization')),
          })
        },
        close: async () => {},
      }
    },
  },
]

function expressAdapter(name: string, create: typeof express): Adapter {
  return {
    name,
    framework: true,
    hostParsing: 'inflated',
    async mount(api, { prefix, hostParser = false, nested = false }) {
      const app = create()
      const hostErrors: unknown[] = []
      if (hostParser) app.use(create.json())
      const handler = posthasteExpress(api, { authorize: (request) => authorizeToken(request.get('authorization')) })
      const [outer, inner] = splitPrefix(prefix, nested)
      if (inner === null) {
        app.use(outer, handler)
      } else {
        const router = create.Router()
        router.use(inner, handler)
        app.use(outer, router)
      }
      app.post('/host/echo', create.json(), (request, response) => void response.json(request.body))
      const onError: express.ErrorRequestHandler = (error, _request, response, _next) => {
        hostErrors.push(error)
        response.status(418).json({ host: 'error handler' })
      }
      app.use(onError)
      return await listen(app, prefix, hostErrors)
    },
  }
}

function fastifyAdapter(name: string, create: typeof fastify): Adapter {
  return {
    name,
    framework: true,
    hostParsing: 'none',
    async mount(api, { prefix, hostParser = false, nested = false }) {
      const app = create()
      const hostErrors: unknown[] = []
      app.setErrorHandler((error: FastifyError, _request, reply) => {
        hostErrors.push(error)
        return reply.code(418).send({ host: 'error handler' })
      })
      if (hostParser) {
        app.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, text, done) => {
          done(null, JSON.parse(String(text)))
        })
      }
      const plugin = posthasteFastify(api, { authorize: ({ headers }) => authorizeToken(headers.authorization) })
      const [outer, inner] = splitPrefix(prefix, nested)
      if (inner === null) {
        await app.register(plugin, { prefix })
      } else {
        const parent: FastifyPluginCallback = (child, _options, done) => {
          void child.register(plugin, { prefix: inner })
          done()
        }
        await app.register(parent, { prefix: outer })
      }
      app.post('/host/echo', async (request) => request.body)
      await app.listen({ port: 0, host: '127.0.0.1' })
      const { port } = app.server.address() as AddressInfo
      return {
        prefix,
        port,
        hostErrors,
        fetch: (path, init) => fetch(`http://127.0.0.1:${port}${path}`, init),
        async close() {
          app.server.closeAllConnections()
          await app.close()
        },
      }
    },
  }
}

function koaAdapter(name: string, App: typeof Koa, way: 'prefix' | 'koa-mount' | '@koa/router'): Adapter {
  return {
    name,
    framework: true,
    hostParsing: 'inflated',
    async mount(api, { prefix, hostParser = false, nested = false }) {
      const app = new App()
      // It would print that a client went away.
      app.silent = true
      const hostErrors: unknown[] = []
      app.use(async (ctx, next) => {
        try {
          await next()
        } catch (error) {
          hostErrors.push(error)
          ctx.status = 418
          ctx.body = { host: 'error handler' }
        }
      })
      if (hostParser) app.use(bodyParser())
      const authorize = (ctx: Koa.Context) => authorizeToken(ctx.get('authorization'))
      const [outer, inner] = splitPrefix(prefix, nested)
      if (way === 'prefix') {
        app.use(posthasteKoa(api, { authorize, prefix }))
      } else if (way === 'koa-mount') {
        const middleware = posthasteKoa(api, { authorize })
        app.use(mount(outer, inner === null ? middleware : mount(inner, middleware)))
      } else {
        const middleware = posthasteKoa(api, { authorize, prefix })
        const router = new Router(inner === null ? {} : { prefix: outer })
        router.all(`${inner ?? prefix}{/*path}`, middleware)
        app.use(router.routes())
      }
      const host = new Router()
      host.post('/host/echo', bodyParser(), (ctx) => {
        ctx.body = ctx.request.body
      })
      app.use(host.routes())
      return await listen(app.callback(), prefix, hostErrors)
    },
  }
}

/** `/api/v1/hooks` → `/api/v1` and `/hooks`, where the mount is nested. */
export function splitPrefix(prefix: string, nested: boolean): [outer: string, inner: string | null] {
  if (!nested) return [prefix === '' ? '/' : prefix, null]
  const cut = prefix.lastIndexOf('/')
  return [prefix.slice(0, cut) || '/', prefix.slice(cut)]
}

/** Serves on a free port of the loopback. */
export async function listen(listener: RequestListener, prefix: string, hostErrors: unknown[]): Promise<Mounted> {
  const server = createServer(listener)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    prefix,
    port,
    hostErrors,
    fetch: (path, init) => fetch(`http://127.0.0.1:${port}${path}`, init),
    close: () => close(server),
  }
}

async function close(server: Server): Promise<void> {
  const closed = once(server, 'close')
  server.close()
  server.closeAllConnections()
  await closed
}
