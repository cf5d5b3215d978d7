import { describe, expect, test } from 'vitest'
import { createRouter, type Method, type Route } from './routes.ts'

function route(method: Method, path: string): Route {
  const operationId = `${method} ${path}`
  return {
    method,
    path,
    operationId,
    permission: 'read',
    summary: operationId,
    tag: 'test',
    responses: {},
    handle: async () => ({ status: 200 }),
  }
}

const find = createRouter([
  route('GET', '/{id}'),
  route('PATCH', '/{id}'),
  route('GET', '/'),
  route('POST', '/'),
  route('GET', '/{id}/secret'),
  route('GET', '/events'),
  route('GET', '/events/{id}'),
])

describe('createRouter', () => {
  test.each([
    ['', 'GET /', {}],
    ['/', 'GET /', {}],
    ['/ep_1', 'GET /{id}', { id: 'ep_1' }],
    ['/ep_1/', 'GET /{id}', { id: 'ep_1' }],
    ['/%65p%5F1', 'GET /{id}', { id: 'ep_1' }],
    ['/a%2Fb', 'GET /{id}', { id: 'a/b' }],
    ['/events', 'GET /events', {}],
    ['/events/', 'GET /events', {}],
    ['/events/x', 'GET /events/{id}', { id: 'x' }],
    ['/x/secret', 'GET /{id}/secret', { id: 'x' }],
    ['/events/secret', 'GET /events/{id}', { id: 'secret' }],
    ['/__proto__', 'GET /{id}', { id: '__proto__' }],
  ])('%j is %s', (path, operationId, params) => {
    const found = find(path)
    expect(found?.routes.get('GET')?.operationId).toBe(operationId)
    expect(found?.params).toEqual(params)
  })

  test.each(['//', '//x', '/x//', '/x//secret', '/x/secret/more', '/%', '/%ff', '/x/other'])(
    '%j is nothing',
    (path) => {
      expect(find(path)).toBeNull()
    },
  )

  test('Allow names the methods of the path that was found', () => {
    expect(find('/x')?.allow).toBe('GET, HEAD, OPTIONS, PATCH')
    expect(find('/events')?.allow).toBe('GET, HEAD, OPTIONS')
  })

  test('one operation for a method and path', () => {
    expect(() => createRouter([route('GET', '/x'), route('GET', '/x')])).toThrow('routed twice')
  })
})
