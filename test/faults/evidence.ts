/** Puts together what one run has left: in the database, in the receivers' logs, in the API's answers. */
import { existsSync, readFileSync } from 'node:fs'
import type { ReceiptLine } from './processes/receiver.ts'
import type { Stage } from './stage.ts'
import type { AttemptEvidence, EndpointEvidence, Evidence, Receipt, ReplayEvidence, Stall } from './testimony.ts'

export async function collectEvidence(stage: Stage, stalls: readonly Stall[]): Promise<Evidence> {
  const { sql, chronicle } = stage
  const committed = (await sql`select n from orders order by n`).map((row) => row.n as number)
  const pages = (await sql`select extract(epoch from at)::float8 * 1000 as at, last_seq::int last_seq
    from posthaste.dispatches where deliveries > 0 order by n`) as unknown as { at: number; last_seq: number }[]
  const rows = await sql`select 'dlv_' || replace(d.id::text, '-', '') id, d.endpoint, d.seq::int seq, d.generation,
    'evt_' || replace(d.event_id::text, '-', '') event from posthaste.deliveries d order by d.seq`
  const madeAt = new Map<number, number>()
  const dispatchedAt = new Map<string, number>()
  let page = 0
  for (const { seq, event } of rows as unknown as { seq: number; event: string }[]) {
    while (pages[page]!.last_seq < seq) page++
    madeAt.set(seq, pages[page]!.at)
    if (!dispatchedAt.has(event)) dispatchedAt.set(event, pages[page]!.at)
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
      idMs: Number.parseInt((row.id as string).slice(4, 16), 16),
      dispatchedAt: dispatchedAt.get(row.id as string) ?? null,
    })),
    endpoints: await listEndpoints(stage),
    deliveries: rows.map((row) => ({
      id: row.id as string,
      endpoint: row.endpoint as number,
      eventId: row.event as string,
      seq: row.seq as number,
      generation: row.generation as number,
      madeAt: madeAt.get(row.seq as number)!,
      status: statuses.get(row.id as string) ?? 'not listed',
    })),
    attempts,
    receipts: stage.receivers.slots.flatMap(({ logFile }) => (existsSync(logFile) ? readReceipts(logFile) : [])),
    losses: chronicle.losses,
    disturbances: chronicle.disturbances,
    replays: await listReplays(stage),
    replayAsks: chronicle.replayAsks,
    retryAsks: chronicle.retryAsks,
    attemptsPerDelivery: stage.schedule.retrySchedule.length + 1,
    unhandled: chronicle.unhandled,
    bounds: chronicle.bounds,
    stalls,
  }
}

async function listReplays({ sql }: Stage): Promise<ReplayEvidence[]> {
  return (await sql`select 'rpl_' || replace(id::text, '-', '') id, no, endpoint, which, status, done::int done,
    (extract(epoch from since) * 1000)::float8 "sinceMs", (extract(epoch from until) * 1000)::float8 "untilMs"
    from posthaste.replays order by no`) as unknown as ReplayEvidence[]
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
