/** Puts together what one run has left: in the database, in the receivers' logs, in the API's answers. */
import { existsSync, readFileSync } from 'node:fs'
import type { AttemptEvidence, EndpointEvidence, Evidence, Receipt } from './invariant.ts'
import type { ReceiptLine } from './processes/receiver.ts'
import { RETRY_SCHEDULE, type Stage } from './stage.ts'

export async function collectEvidence(stage: Stage): Promise<Evidence> {
  const { sql } = stage
  const committed = (await sql`select n from orders order by n`).map((row) => row.n as number)
  const pages = (await sql`select extract(epoch from at)::float8 * 1000 as at, last_seq::int last_seq
    from posthaste.dispatches where deliveries > 0 order by n`) as unknown as { at: number; last_seq: number }[]
  const rows = await sql`select 'dlv_' || replace(d.id::text, '-', '') id, d.endpoint, d.seq::int seq,
    'evt_' || replace(d.event_id::text, '-', '') event from posthaste.deliveries d order by d.seq`
  const dispatchedAt = new Map<string, number>()
  for (const row of rows) {
    if (dispatchedAt.has(row.event as string)) continue
    dispatchedAt.set(row.event as string, pages.find(({ last_seq }) => last_seq >= (row.seq as number))!.at)
  }
  const statuses = await listStatuses(stage)
  const attempts =
    (await sql`select 'dlv_' || replace(delivery_id::text, '-', '') delivery, number, outcome = 1 succeeded,
    final, status, step from posthaste.attempts order by delivery_id, number`) as unknown as AttemptEvidence[]
  return {
    committed,
    events: (
      await sql`select 'evt_' || replace(id::text, '-', '') id, (data::json ->> 'n')::int n from posthaste.events`
    ).map((row) => ({
      id: row.id as string,
      n: row.n as number,
      dispatchedAt: dispatchedAt.get(row.id as string) ?? null,
    })),
    endpoints: await listEndpoints(stage),
    deliveries: rows.map((row) => ({
      id: row.id as string,
      endpoint: row.endpoint as number,
      eventId: row.event as string,
      seq: row.seq as number,
      status: statuses.get(row.id as string) ?? 'not listed',
    })),
    attempts,
    receipts: stage.receivers.flatMap(({ logFile }) => (existsSync(logFile) ? readReceipts(logFile) : [])),
    losses: stage.losses,
    disturbances: stage.disturbances,
    attemptsPerDelivery: RETRY_SCHEDULE.length + 1,
    unhandled: stage.unhandled,
    overdue: stage.overdue,
  }
}

/** By the public API, as an operator would see them. */
async function listStatuses({ webhooks, endpoints }: Stage): Promise<Map<string, string>> {
  const statuses = new Map<string, string>()
  for (const { id } of endpoints) {
    let cursor: string | null | undefined
    do {
      const page = await webhooks.deliveries.list('default', id, { limit: 100, ...(cursor ? { cursor } : {}) })
      for (const delivery of page.data) statuses.set(delivery.id, delivery.status)
      cursor = page.next_cursor
    } while (cursor !== null)
  }
  return statuses
}

async function listEndpoints({ endpoints, sql }: Stage): Promise<EndpointEvidence[]> {
  const rows =
    await sql`select no, case when deleted_at is not null then 'deleted' when disabled_at is not null then 'disabled'
    when not active then 'inactive' else 'active' end state from posthaste.endpoints`
  const states = new Map(rows.map((row) => [row.no as number, row.state as EndpointEvidence['state']]))
  return endpoints.map(({ no, ordering, switches }) => ({ no, ordering, switches, state: states.get(no)! }))
}

/** The last line of a receiver that was killed may be cut; what it belongs to was not answered. */
function readReceipts(file: string): Receipt[] {
  const receipts = new Map<number, Receipt>()
  for (const text of readFileSync(file, 'utf8').split('\n')) {
    let line: ReceiptLine
    try {
      line = JSON.parse(text) as ReceiptLine
    } catch {
      continue
    }
    if ('answered' in line) {
      Object.assign(receipts.get(line.request)!, { answered: line.answered, answeredAt: line.at })
      continue
    }
    const { request, at, delivery, event, n, attempt, worker } = line
    receipts.set(request, { at, delivery, eventId: event, n, attempt, worker, answered: null, answeredAt: null })
  }
  return [...receipts.values()]
}
