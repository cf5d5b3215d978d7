/** A role that may do nothing but emit: the grants of docs/transactions.md, each of them needed. */
import postgres from 'postgres'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Host } from './host.ts'

/** Before Postgres 18 ids are made with a sequence. */
export const grantsToEmit = (withSequence: boolean): Record<string, string> => ({
  'usage of the schema': 'usage on schema posthaste',
  'inserting events': 'insert (id, account, type, data, occurred_at, envelope, idempotency_key) on posthaste.events',
  "reading an event's id": 'select (id) on posthaste.events',
  'reading who subscribes': 'select (account, pattern) on posthaste.subscriptions',
  'making ids': 'execute on function posthaste.new_id()',
  'writing what somebody subscribes to':
    'execute on function posthaste.write_event(text, text, text, timestamptz, smallint, text)',
  ...(withSequence ? { 'counting ids': 'usage on sequence posthaste.id_counter' } : {}),
})

export function describeRoles(host: () => Host): void {
  let grants: Record<string, string>
  beforeAll(async () => {
    const [row] = await host().sql`select current_setting('server_version_num')::int < 180000 before_18`
    grants = grantsToEmit(row?.before_18)
    // What hosts do that trust nobody by default. Grants that everybody has would hide those that are missing.
    await host().sql.unsafe('revoke execute on all functions in schema posthaste from public')
  })
  afterEach(() => host().clear())

  const grantTo = (role: string, some: readonly string[]) => some.map((one) => `grant ${one} to ${role}`).join(';')

  /** Every statement of emit, in a transaction as the first thing and after something, and bulk. */
  async function emitAll(url: string): Promise<void> {
    const sql = postgres(url, { max: 1, onnotice: () => {} })
    try {
      const { webhooks } = host()
      await sql.begin(async (tx) => {
        await webhooks.emit('test.happened', { n: 1 }, { tx })
        await webhooks.emit('test.happened', { n: 2 }, { tx, occurredAt: new Date(), idempotencyKey: 'k' })
        await webhooks.emit('test.seen', { n: 3 }, { tx })
        await webhooks.emitMany([{ type: 'test.happened', data: { n: 4 } }], { tx })
        await webhooks.emitMany([{ type: 'test.seen', data: { n: 5 } }], { tx })
      })
    } finally {
      await sql.end({ timeout: 5 })
    }
  }

  test('emits in all ways', async () => {
    await host().asRole((role) => grantTo(role, Object.values(grants)), emitAll)
    expect((await host().state()).events).toEqual([1, 2, 4])
  })

  test('can do nothing else', async () => {
    await host().webhooks.emit('test.happened', { n: 1 }, { tx: 'own' })
    await host().asRole(
      (role) => grantTo(role, Object.values(grants)),
      async (url) => {
        const sql = postgres(url, { max: 1, onnotice: () => {} })
        const denied = expect.objectContaining({ code: '42501' })
        try {
          for (const statement of [
            'select data from posthaste.events',
            `update posthaste.events set data = '{}'`,
            'delete from posthaste.events',
            'truncate posthaste.events',
            `insert into posthaste.events (xid, account, type, data) values ('1', 'default', 'x', '{}')`,
            'select * from posthaste.endpoints',
            'select endpoint from posthaste.subscriptions',
            `insert into posthaste.commands (kind, endpoint) values ('resume', 1)`,
            'select posthaste.dispatch(1, 1)',
            'create table posthaste.mine (n int)',
          ]) {
            await expect(sql.unsafe(statement), statement).rejects.toEqual(denied)
          }
        } finally {
          await sql.end({ timeout: 5 })
        }
      },
    )
  })

  describe('without', () => {
    test('any one of the grants something fails', async () => {
      for (const [name, missing] of Object.entries(grants)) {
        const others = Object.values(grants).filter((one) => one !== missing)
        const denied = host().asRole((role) => grantTo(role, others), emitAll)
        await expect(denied, name).rejects.toMatchObject({ code: '42501' })
      }
      expect((await host().state()).events).toEqual([])
    })
  })
}
