/**
 * The affiliate program of the examples on a database of its own, with an installation of Posthaste for tests: what it says of
 * itself is what an endpoint that subscribes to everything is sent.
 */

import { affiliateEvents } from '@posthaste/core'
import { createTestInstallation } from '@posthaste/core/testing'
import postgres from 'postgres'
import {
  type AffiliateEventName,
  approveAffiliate,
  createLink,
  type Emit,
  type Program,
  recordClick,
  registerAffiliate,
  setUpProgram,
} from '../../examples/affiliate/src/index.ts'
import { createTestDatabase } from '../support/postgres.ts'

export interface RecordedEvent {
  type: AffiliateEventName
  data: Record<string, unknown>
}

export interface TestProgram extends Program {
  sql: postgres.Sql
  /** What was emitted and committed, in order. */
  events(): Promise<RecordedEvent[]>
  /** The next emit of this type throws, as a broken network or a refused payload would. */
  failNextEmit(type: AffiliateEventName): void
  /** Empties every table. */
  reset(): Promise<void>
  close(): Promise<void>
}

/** The moment of the page's example. */
export const PAGE_TIME = new Date('2024-01-20T14:30:00Z')

export async function createTestProgram(): Promise<TestProgram> {
  const database = await createTestDatabase()
  const sql = postgres(database.url, { max: 8, onnotice: () => {} })
  await setUpProgram(sql)
  const posthaste = await createTestInstallation({ database: database.url, startsAt: PAGE_TIME })
  await posthaste.webhooks.endpoints.create('default', { url: 'https://shop.example/hooks', events: ['*'] })
  const failing = new Set<AffiliateEventName>()
  const emit: Emit = async (type, data, { tx }) => {
    if (failing.delete(type)) throw new Error(`emit of ${type} fails, as the test asked`)
    // A member that the catalogue does not name would go out unnoticed; the example has none.
    const unknown = Object.keys(data).filter((name) => !(name in affiliateEvents.get(type).example))
    if (unknown.length > 0)
      throw new Error(`${type} has members that the catalogue does not know: ${unknown.join(', ')}`)
    return await posthaste.webhooks.emit(type, data, { tx })
  }
  return {
    sql,
    emit,
    now: () => PAGE_TIME,
    async events() {
      await posthaste.settle()
      return posthaste.sent.map(({ type, data }) => ({ type: type as AffiliateEventName, data }))
    },
    failNextEmit: (type) => failing.add(type),
    async reset() {
      failing.clear()
      await posthaste.settle()
      posthaste.clear()
      await sql`truncate ledger_entries, ledger_journals, commissions, payouts, conversions, clicks, codes, links,
        redemptions, payout_batches, affiliates restart identity`
    },
    async close() {
      await posthaste.stop()
      await sql.end({ timeout: 5 })
      await database.drop()
    },
  }
}

/** An affiliate who may sell. */
export async function approvedAffiliate(program: Program, name = 'John Smith', commissionRate = 15): Promise<number> {
  const email = `${name.toLowerCase().replaceAll(' ', '.')}@example.com`
  const { id } = await registerAffiliate(program, { name, email, commissionRate })
  await approveAffiliate(program, id, 'admin@rebusai.com')
  return id
}

/** A customer who came by a link of this affiliate: the id of the click. */
export async function clickOn(
  program: Program,
  affiliateId: number,
  slug = `affiliate-${affiliateId}`,
): Promise<number> {
  await createLink(program, { affiliateId, slug, targetUrl: 'https://shop.example/course' })
  return (await recordClick(program, { slug })).clickId
}
