import { createServer, Socket } from 'node:net'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../../../../test/support/postgres.ts'
import { startTcpProxy, type TcpProxy } from '../../../../test/support/tcp-proxy.ts'
import { until } from '../../../../test/support/until.ts'
import { connect, hurryConnections, type Sql, untilConnectionLost } from './connection.ts'

let database: TestDatabase
let proxy: TcpProxy
let sql: Sql

beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())
beforeEach(async () => {
  proxy = await startTcpProxy(database.url)
})
afterEach(async () => {
  await sql.end({ timeout: 1 })
  await proxy.close()
})

test('a connection that falls silent is given up, and the next statement has another one', async () => {
  sql = connect(proxy.url, 2, 300)
  await sql`select 1`
  proxy.fallSilent()
  await expect(sql`select 2`).rejects.toMatchObject({ code: 'CONNECTION_CLOSED' })
  // What the old connections held back stays there for ever.
  proxy.recover(false)
  expect(await sql`select 3 n`).toEqual([{ n: 3 }])
})

test('so is one that falls silent in a transaction, and one that never said anything', async () => {
  sql = connect(proxy.url, 1, 300)
  await expect(
    sql.begin((tx) =>
      untilConnectionLost(async () => {
        await tx`select 1`
        proxy.fallSilent()
        await tx`select 2`
      }),
    ),
  ).rejects.toMatchObject({ code: 'CONNECTION_CLOSED' })
  await expect(sql`select 3`).rejects.toMatchObject({ code: 'CONNECTION_CLOSED' })
  proxy.recover(false)
  expect(await sql`select 4 n`).toEqual([{ n: 4 }])
})

test('a statement that is only slow succeeds in one of its next tries', async () => {
  sql = connect(database.url, 2, 200)
  let tries = 0
  await until('it to succeed', async () => {
    tries++
    return sql`select pg_sleep(1)`.then(
      () => true,
      () => false,
    )
  })
  expect(tries).toBeGreaterThan(1)
})

test('a slow statement does not cost another connection that answers', async () => {
  sql = connect(database.url, 2, 400)
  const slow = sql`select pg_sleep(2)`.catch((error: Error) => error)
  let over = false
  void slow.then(() => {
    over = true
  })
  while (!over) await sql`select 1`
  expect(await slow).toMatchObject({ code: 'CONNECTION_CLOSED' })
})

test('while nothing is asked nothing is given up', async () => {
  // Long enough for a busy machine to answer in, and twice as long for what must not happen.
  sql = connect(database.url, 1, 1_500)
  const [before] = await sql`select pg_backend_pid() pid`
  await new Promise((resolve) => setTimeout(resolve, 3_200))
  expect(await sql`select pg_backend_pid() pid`).toEqual([before])
})

test('when it is hurried it gives up sooner; the end leaves no socket open', async () => {
  const { username: user, password, pathname } = new URL(database.url)
  const sockets: Socket[] = []
  sql = connect(
    {
      user,
      password,
      database: pathname.slice(1),
      socket: () => {
        sockets.push(new Socket().connect(proxy.port, '127.0.0.1'))
        return sockets.at(-1)
      },
    } as Parameters<typeof connect>[0],
    2,
  )
  await sql`select 1`
  proxy.fallSilent()
  const asked = sql`select 2`.catch((error: unknown) => error)
  hurryConnections(sql, 300)
  expect(await asked).toMatchObject({ code: 'CONNECTION_CLOSED' })
  const again = sql`select 3`.catch((error: unknown) => error)
  await sql.end({ timeout: 1 })
  expect(await again).toBeInstanceOf(Error)
  expect(sockets.length).toBeGreaterThan(1)
  expect(sockets.every(({ destroyed }) => destroyed)).toBe(true)
})

test('reaches the second host of a list when nobody listens at the first', async () => {
  const closed = createServer()
  await new Promise<void>((resolve) => closed.listen(0, '127.0.0.1', resolve))
  const { port } = closed.address() as { port: number }
  await new Promise((resolve) => closed.close(resolve))
  const url = new URL(database.url)
  sql = connect(`postgres://${url.username}:${url.password}@127.0.0.1:${port},127.0.0.1:${url.port}${url.pathname}`, 1)
  await expect.poll(() => sql`select 5 n`.catch(() => null)).toEqual([{ n: 5 }])
})
