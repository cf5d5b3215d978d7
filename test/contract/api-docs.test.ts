/** docs/api.md is true: its snippets run, its JSON fits the schemas, its tables are the routes and codes that there are. */
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import * as express from '@posthaste/express'
import * as fastify from '@posthaste/fastify'
import * as koa from '@posthaste/koa'
import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import expressModule from 'express'
import fastifyModule, { type FastifyInstance } from 'fastify'
import { Hono } from 'hono'
import Koa from 'koa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { apiRoutes } from '../../packages/core/src/api/route-table.ts'
import { affiliateEvents } from '../../packages/core/src/catalog/affiliate-events.ts'
import { ERROR_CODES } from '../../packages/core/src/errors.ts'
import { startTestApi, type TestApi } from './management-api.ts'

let api: TestApi
let text: string
beforeAll(async () => {
  api = await startTestApi({ tenancy: 'single' })
  text = await readFile(new URL('../../docs/api.md', import.meta.url), 'utf8')
})
afterAll(() => api.stop())

const MODULES: Record<string, Record<string, unknown>> = {
  express: { default: expressModule },
  fastify: { default: fastifyModule },
  koa: { default: Koa },
  hono: { Hono },
  '@posthaste/express': express,
  '@posthaste/fastify': fastify,
  '@posthaste/koa': koa,
}

function snippets(): string[] {
  return [...text.matchAll(/^```ts\n(.*?)^```/gms)].map(([, code = '']) => code)
}

/** Runs a snippet with its imports and the two names that it takes for granted, and answers one of its variables. */
async function run(code: string, result: string): Promise<unknown> {
  const names = ['webhooks', 'permissionsOf']
  const values: unknown[] = [api, () => ({ permissions: ['read'] })]
  const body = code.replaceAll(/^import (\w+|\{ \w+ \}) from '(.+)'$/gm, (_, what: string, from: string) => {
    const name = what.replaceAll(/[{} ]/g, '')
    names.push(name)
    values.push(MODULES[from]?.[what.startsWith('{') ? name : 'default'])
    return ''
  })
  const AsyncFunction = (async () => {}).constructor as new (...source: string[]) => (...given: unknown[]) => unknown
  return await new AsyncFunction(...names, `${body}\nreturn ${result}`)(...values)
}

async function listOver(listener: Parameters<typeof createServer>[1]): Promise<unknown> {
  const server = createServer(listener)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    const answer = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/webhooks?limit=1`)
    return [answer.status, Object.keys((await answer.json()) as object)]
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

describe('snippets', () => {
  const LIST = [200, ['data', 'next_cursor']]

  test('mount the API', async () => {
    const [inExpress = '', inFastify = '', inKoa = '', inHono = ''] = snippets()
    expect(await listOver((await run(inExpress, 'app')) as expressModule.Express)).toEqual(LIST)
    const app = (await run(inFastify, 'app')) as FastifyInstance
    const answer = await app.inject('/webhooks?limit=1')
    expect([answer.statusCode, Object.keys(answer.json())]).toEqual(LIST)
    expect(await listOver(((await run(inKoa, 'app')) as Koa).callback())).toEqual(LIST)
    expect(await listOver(getRequestListener(((await run(inHono, 'app')) as Hono).fetch))).toEqual(LIST)
  })

  test('call the service', async () => {
    expect(snippets()).toHaveLength(6)
    const [endpoints = '', logs = ''] = snippets().slice(4)
    const data = (await run(endpoints, 'data')) as { url: string }[]
    expect(data[0]?.url).toBe('https://your-app.com/hooks')
    expect(await run(endpoints + logs, '[failed.data, replay.which, done, total]')).toEqual([[], 'missing', 0, null])
  })
})

test('JSON blocks are what their schemas say', async () => {
  const answer = await api.handler(new Request('http://localhost/openapi.json'), {
    mountPath: '',
    frameworkRequest: null,
    authorize: () => ({ permissions: ['read'] }),
  })
  const ajv = new Ajv2020({ strict: false })
  addFormats.default(ajv)
  ajv.addSchema((await answer.json()) as object, 'openapi')
  const blocks = [...text.matchAll(/^<!-- (\w+) -->\n```json\n(.*?)^```/gms)]
  expect(blocks.length).toBe([...text.matchAll(/^```json$/gm)].length)
  for (const [, name = '', json = ''] of blocks) {
    const validate = ajv.getSchema(`openapi#/components/schemas/${name}`)
    expect([name, validate?.(JSON.parse(json)), validate?.errors]).toEqual([name, true, null])
  }
})

test('the table of routes is the route table', () => {
  const rows = [...text.matchAll(/^\| `(GET|POST|PUT|PATCH|DELETE) (\S+)` \| `(\w+)` \|/gm)]
  const documented = rows.map(([, method, path, permission]) => `${method} ${path} ${permission}`)
  const routes = apiRoutes({ ...api, catalog: affiliateEvents })
  expect(documented.toSorted()).toEqual(
    routes.map(({ method, path, permission }) => `${method} ${path} ${permission ?? 'public'}`).toSorted(),
  )
})

test('the codes in the table have the status that it says', () => {
  const rows = [...text.matchAll(/^\| (\d{3}) \| `(\w+)` \|/gm)]
  expect(rows.length).toBeGreaterThan(10)
  for (const [, status, code = ''] of rows) {
    expect([code, (ERROR_CODES as Record<string, number>)[code]]).toEqual([code, Number(status)])
  }
})
