/** Bytes on disk of events, deliveries and attempts, each table and each index, after deliveries of one event each to one endpoint. */
import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import type { HostApplication } from '../processes/host-application.ts'
import type { Receiver } from '../processes/receiver.ts'
import { startChild } from '../support/child-process.ts'
import { accountOf, createBenchWebhooks, emitInAdvance, seedEndpoints } from '../support/installation.ts'
import { EVENT_TYPE, sampleData } from '../support/sample-event.ts'
import { formatTable } from '../support/table.ts'
import type { Scenario } from './scenario.ts'

const DELIVERIES = 100_000
/** The aim for one delivery with its event, its attempt and all indexes. */
const AIM_BYTES = 700

interface Relation extends Record<string, unknown> {
  log: string
  relation: string
  is_index: boolean
  bytes: number
}

export const size: Scenario = {
  name: 'size',
  describe: `bytes per successful delivery, one event each to one endpoint`,
  async run(context) {
    const total = context.quick ? DELIVERIES / 10 : DELIVERIES
    const database = await context.postgres.createDatabase()
    const sql = postgres(database.url, { max: 1, onnotice: () => {} })
    const webhooks = createBenchWebhooks(database.url)
    const receiver = await startChild<Receiver>(new URL('../processes/receiver.ts', import.meta.url))
    const worker = await startChild<HostApplication>(new URL('../processes/host-application.ts', import.meta.url))
    const failures: string[] = []
    try {
      const port = await receiver.call.listen()
      await webhooks.migrate()
      await seedEndpoints(sql, port, 1)
      await emitInAdvance(webhooks, 1, total)
      await worker.call.configure({ url: database.url })
      await worker.call.start()
      if (!(await receiver.call.awaitCount({ count: total, timeoutMs: 300_000 })))
        failures.push('size: not all arrived')
      for (let tries = 0; tries < 100; tries++) {
        const [row] = await sql`select count(*)::int n from posthaste.attempts`
        if (row?.n === total) break
        await sleep(100)
      }
      await worker.call.stop()
      const relations = await sql<Relation[]>`
        select p.relname log, regexp_replace(coalesce(i.relname, t.relname), '_[0-9]{8}', '') relation, i.oid is not null is_index,
          sum(case when i.oid is null then pg_table_size(t.oid) else pg_relation_size(i.oid) end)::float8 bytes
        from pg_inherits h join pg_class p on p.oid = h.inhparent and p.relkind = 'p' join pg_class t on t.oid = h.inhrelid
        left join lateral (select null::oid oid, null::name relname union all
          select c.oid, c.relname from pg_index x join pg_class c on c.oid = x.indexrelid where x.indrelid = t.oid) i on true
        where p.relnamespace = 'posthaste'::regnamespace and t.relname !~ '_default$'
        group by 1, 2, 3 having sum(case when i.oid is null then pg_table_size(t.oid) else pg_relation_size(i.oid) end) > 0`
      const per = (bytes: number) => bytes / total
      const sum = (pick: (relation: Relation) => boolean) =>
        per(relations.filter(pick).reduce((bytes, relation) => bytes + relation.bytes, 0))
      const rows = ['events', 'deliveries', 'attempts'].map((log) => [
        log,
        sum((one) => one.log === log && !one.is_index).toFixed(0),
        sum((one) => one.log === log && one.is_index).toFixed(0),
        sum((one) => one.log === log).toFixed(0),
        relations
          .filter((one) => one.log === log && one.is_index && per(one.bytes) >= 1)
          .map((one) => `${one.relation.replace(`${log}_`, '')} ${per(one.bytes).toFixed(0)}`)
          .toSorted()
          .join(', '),
      ])
      const all = sum(() => true)
      rows.push([
        'all told',
        sum((one) => !one.is_index).toFixed(0),
        sum((one) => one.is_index).toFixed(0),
        all.toFixed(0),
        `aim: ${AIM_BYTES}`,
      ])
      const [other] = await sql`select sum(pg_total_relation_size(c.oid))::float8 bytes from pg_class c
        where c.relnamespace = 'posthaste'::regnamespace and c.relkind = 'r' and not c.relispartition`
      rows.push([
        'all other tables',
        '',
        '',
        per(other?.bytes as number).toFixed(0),
        'mostly dispatches, kept for an hour',
      ])
      const dataBytes = Buffer.byteLength(JSON.stringify(sampleData(total)))
      const title = `${total.toLocaleString('en')} deliveries of ${EVENT_TYPE} (${dataBytes} bytes of data, account "${accountOf(1)}"), bytes each`
      return {
        tables: [{ title, text: formatTable(['', 'table', 'indexes', 'together', 'which'], rows) }],
        data: { total, dataBytes, relations: [...relations], together: all },
        failures,
      }
    } finally {
      await worker.stop()
      await receiver.stop()
      await webhooks.stop()
      await sql.end({ timeout: 5 })
      await database.drop()
    }
  },
}
