/** A transaction is one, and of another database: what emit and the inbox say of that, through every data layer. */
import { createWebhooks } from '@posthaste/core'
import { createInbox } from '@posthaste/core/inbox'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { DATA_LAYERS, WIRE_FORMS } from '../data-layers/layers/index.ts'
import { type Host, openHost } from '../data-layers/suites/host.ts'
import { withTestOptions } from '../support/webhooks-under-test.ts'

/** The server's own database, in which nobody migrated anything. */
const elsewhere = inject('postgresAdminUrl')
let host: Host
beforeAll(async () => {
  host = await openHost(elsewhere, inject('postgresRunPrefix'))
})
afterAll(() => host.stop())

/** What `work` was rejected with, found under whatever a data layer wrapped it in. */
async function rejection(work: Promise<unknown>): Promise<{ code: string; message: string; cause: unknown }> {
  return await work.then(
    () => expect.unreachable('it should not have succeeded'),
    (error) => error,
  )
}

describe.each(DATA_LAYERS)('$name', ({ open }) => {
  test('emit and inbox say that the tables are missing, and nothing of the data', async () => {
    const layer = await open(elsewhere)
    try {
      const emitted = await rejection(
        layer.transaction(({ tx }) => host.webhooks.emit('test.happened', { n: 4711 }, { tx })),
      )
      expect(emitted).toMatchObject({ code: 'NOT_MIGRATED', message: expect.stringContaining('webhooks.migrate()') })
      expect(emitted.message).not.toContain('4711')
      expect(emitted.cause).toBeInstanceOf(Error)
      const inbox = createInbox({ source: 'shop' })
      const received = await rejection(layer.transaction(({ tx }) => inbox.processOnce(tx, { id: 'evt_1' }, () => {})))
      expect(received).toMatchObject({ code: 'NOT_MIGRATED', message: expect.stringContaining('inbox.migrate()') })
    } finally {
      await layer.close()
    }
  })
})

test('an error that has nothing to do with that is told as it is', async () => {
  for (const { open } of WIRE_FORMS) {
    const layer = await open(host.url)
    try {
      const emitted = layer.transaction(async ({ tx, execute }) => {
        await execute('set transaction read only')
        await host.webhooks.emit('test.happened', { n: 1 }, { tx })
      })
      await expect(emitted).rejects.not.toMatchObject({ name: 'PosthasteError' })
    } finally {
      await layer.close()
    }
  }
})

test('where the other database has an installation of its own, the event is its', async () => {
  const other = await openHost(elsewhere, inject('postgresRunPrefix'))
  try {
    await other.sql.begin((tx) => host.webhooks.emit('test.happened', { n: 1 }, { tx }))
    expect([(await host.state()).events, (await other.state()).events]).toEqual([[], [1]])
  } finally {
    await other.stop()
  }
})

describe("tx: 'own'", () => {
  test.each([
    ['a database that was never migrated', elsewhere, 'NOT_MIGRATED'],
    ['no database', 'postgres://nobody@127.0.0.1:1/nothing', 'UNAVAILABLE'],
  ])('%s', async (_name, database, code) => {
    const webhooks = createWebhooks(withTestOptions(database))
    try {
      await expect(webhooks.emit('test.happened', { n: 1 }, { tx: 'own' })).rejects.toMatchObject({ code })
    } finally {
      await webhooks.stop()
    }
  })
})
