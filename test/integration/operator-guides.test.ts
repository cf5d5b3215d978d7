/** What docs/operations.md, docs/upgrading.md and docs/privacy.md tell an operator to run is run here as it stands there. */
import { readFileSync } from 'node:fs'
import { createWebhooks } from '@posthaste/core'
import postgres from 'postgres'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { runSnippet, snippetsOf } from '../support/snippets.ts'
import { until } from '../support/until.ts'
import { QUICK, SECRET_KEYS, type UnderTest, underTest, withTestOptions } from '../support/webhooks-under-test.ts'

const HOUR = 3_600_000

let receiver: Receiver
let host: UnderTest
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(async () => await receiver.close())
beforeEach(async () => {
  host = await underTest(QUICK)
})
afterEach(async () => await host.stop())

/** The one block of a page in which this text is. */
function block(page: string, text: string): string {
  const found = snippetsOf(`docs/${page}.md`).filter(({ code }) => code.includes(text))
  expect(found.map(({ language }) => language)).toHaveLength(1)
  return found[0]!.code
}

describe('docs/operations.md', () => {
  const ask = (text: string) => host.sql.unsafe(block('operations', text))

  test('the alarms are off in peace, and each is raised by what it names', async () => {
    const alarms = async (laterMs = 0) => {
      const later = { now: () => Date.now() + laterMs, parse: Date.parse }
      const raised = await runSnippet(
        block('operations', 'const alarms'),
        { webhooks: host.webhooks, Date: later },
        'alarms',
      )
      return Object.entries(raised as Record<string, boolean>).flatMap(([name, on]) => (on ? [name] : []))
    }
    await host.endpoint(receiver.url('/alarms'))
    expect(await alarms()).toEqual([])
    expect(await alarms(20 * 24 * HOUR)).toContain('no upkeep runs')
    await host.emit(1)
    expect([await alarms(), await alarms(61_000)]).toEqual([[], ['nobody dispatches']])
    await host.sql`select posthaste.dispatch(1000, 2000)`
    expect([await alarms(600_000), await alarms(901_000)]).toEqual([[], ['deliveries are late']])
    await host.sql`insert into posthaste.leaving_weeks (week, state, since) values (now() - interval '50 days', 'kept', now() - interval '2 days')`
    expect(await alarms()).toEqual([])
    await host.sql`update posthaste.leaving_weeks set state = 'locked'`
    expect(await alarms()).toEqual(['a week cannot be removed'])
    await host.sql`delete from posthaste.leaving_weeks`
    const report = postgres(host.database.url, { max: 1 })
    await report.begin('isolation level repeatable read', async (tx) => {
      await tx`select count(*) from posthaste.events`
      expect(await alarms(4 * HOUR)).toEqual(['deliveries are late', 'something holds vacuum back'])
    })
    await report.end()
  })

  test('who waits, and why; the reasons are all that there are', async () => {
    const { id } = await host.endpoint(receiver.url('/waits'))
    await host.sql`insert into posthaste.backlogs (endpoint, lane, cursor_seq, oldest, reason)
      select no, no % 64, 0, posthaste.new_id(), 'degraded' from posthaste.endpoints`
    await host.sql`insert into posthaste.endpoint_health (endpoint, backoff_ms, backoff_until)
      select no, 1000, now() + interval '1 second' from posthaste.endpoints`
    expect(await ask('from posthaste.backlogs')).toMatchObject([
      {
        account: 'default',
        endpoint: id,
        url: receiver.url('/waits'),
        reason: 'degraded',
        backoff_until: expect.any(Date),
      },
    ])
    const page = readFileSync('docs/operations.md', 'utf8')
    const table = page.slice(page.indexOf('| `reason` |'), page.indexOf('One slow endpoint'))
    const listed = [...table.matchAll(/^\| (`[a-z]+`(?:, `[a-z]+`)*) \|/gm)].flatMap(([, names = '']) =>
      names.match(/[a-z]+/g),
    )
    const source = readFileSync('packages/core/src/delivery/endpoint-upkeep.ts', 'utf8')
    const written = source.slice(source.indexOf('function toBacklog'), source.indexOf('return { endpoint: state.no'))
    const reasons = [...written.matchAll(/[?:] '(\w+)'/g)].map(([, reason]) => reason)
    // What is held is of endpoints that are switched off, which the statement leaves out.
    expect([...listed, 'held'].filter((reason) => reason !== 'reason').toSorted()).toEqual(reasons.toSorted())
  })

  test('an endpoint that was disabled is found; when it is mended, it gets what was held and what had failed', async () => {
    receiver.answer('/gone', ({ attempt, data }) => (attempt > 1 ? 200 : data.n === 1 ? 503 : 410))
    const webhooks = host.another({ retrySchedule: [] })
    const since = new Date(Date.now() - HOUR).toISOString()
    const { id } = await host.endpoint(receiver.url('/gone'))
    await webhooks.start()
    await host.emit(1)
    await receiver.received('/gone', 1)
    await host.emit(2)
    await until('it to be disabled', async () => (await ask('disabled_reason')).length === 1)
    expect(await ask('disabled_reason')).toMatchObject([{ account: 'default', endpoint: id, disabled_reason: 'gone' }])
    receiver.answer('/gone', 200)
    await runSnippet(block('operations', '{ active: true }'), { webhooks, account: 'default', endpointId: id, since })
    await until('both to have been received', async () => {
      const { data } = await webhooks.deliveries.list('default', id, { status: 'succeeded' })
      return new Set(data.map((delivery) => delivery.event_id)).size === 2
    })
    expect(await ask('disabled_reason')).toEqual([])
  })

  test('who works: each worker with its lanes; nobody, when it has stopped', async () => {
    const working = () => ask('w.started_at')
    expect(await working()).toEqual([])
    const worker = host.another()
    await worker.start()
    await until('it to own all lanes', async () => Number((await working())[0]?.lanes) === 64)
    expect(await working()).toMatchObject([{ last_renewal: expect.any(Date), version: expect.any(String) }])
    await worker.stop()
    expect(await working()).toEqual([])
  })

  test('what keeps the write-ahead log, and what the clocks say', async () => {
    const slot = `slot_${host.database.name.slice(-8)}`
    await host.sql`select pg_create_physical_replication_slot(${slot}, true)`
    try {
      const kept = (await ask('pg_replication_slots')).find(({ slot_name }) => slot_name === slot)
      expect(kept).toMatchObject({ active: false, kept: expect.stringMatching(/^\d+ \w+$/) })
    } finally {
      await host.sql`select pg_drop_replication_slot(${slot})`
    }
    const [clock] = await ask('newest_renewal')
    expect(Math.abs((clock!.postgres as Date).getTime() - Date.now())).toBeLessThan(60_000)
  })

  test('what our connections do, and who is in their way', async () => {
    const other = postgres(host.database.url, { max: 1 })
    const emitting = Promise.withResolvers<unknown>()
    await other.begin(async (tx) => {
      const [me] = await tx`select pg_backend_pid() pid`
      await tx`lock table posthaste.events in access exclusive mode`
      emitting.resolve(host.webhooks.emit('test.happened', { n: 1 }, { tx: 'own' }))
      await until('the emit to wait', async () =>
        (await ask('pg_blocking_pids')).some(
          ({ blocked_by, query }) =>
            (blocked_by as number[]).includes(me!.pid as number) && /posthaste\.events/.test(query as string),
        ),
      )
    })
    expect(await emitting.promise).toMatchObject({ id: expect.stringMatching(/^evt_/) })
    await other.end()
  })

  test('the keys that are missing here', async () => {
    await host.endpoint(receiver.url('/key'))
    const missing = (keys: typeof SECRET_KEYS | object) =>
      runSnippet(
        block('operations', 'secretKeys.usage()'),
        { webhooks: host.another({ secretKeys: keys as typeof SECRET_KEYS }) },
        'missing',
      )
    expect(await missing(SECRET_KEYS)).toEqual([])
    const others = { current: 'k2', keys: { k2: Buffer.alloc(32, 8).toString('base64') } }
    expect(await missing(others)).toMatchObject([{ key: 'k1', available: false, endpoints: 1 }])
  })

  test('the options of retention, and the readings by name', async () => {
    const made: unknown[] = []
    await runSnippet(block('operations', 'retention: {'), {
      createWebhooks: (options: object) =>
        made.push(createWebhooks({ ...withTestOptions(host.database.url), ...options })),
    })
    expect(made).toHaveLength(1)
    const reading = snippetsOf('docs/operations.md', 'ts').at(-1)!.code
    const storage = (await runSnippet(reading, { webhooks: host.webhooks }, 'storage')) as Record<string, unknown>
    const table = /^\| reading \|.*?\n\n/ms.exec(readFileSync('docs/operations.md', 'utf8'))![0]
    const named = [...table.matchAll(/^\| `(\w+)/gm)].map(([, name]) => name as string)
    expect(Object.keys(storage)).toEqual(expect.arrayContaining(named))
    expect(named.length).toBeGreaterThan(6)
  })
})

describe('docs/upgrading.md', () => {
  test('a copy under another name starts and sends nothing, until it is adopted', async () => {
    await host.endpoint(receiver.url('/copy'))
    await host.emit(1)
    const given = { createWebhooks, database: host.database.url, secretKeys: SECRET_KEYS }
    const copy = (await runSnippet(
      block('upgrading', 'resolves; sends nothing'),
      given,
      'webhooks',
    )) as typeof host.webhooks
    expect(await host.sql`select from posthaste.workers`).toEqual([])
    await copy.stop()
    const said: unknown[] = []
    await runSnippet(block('upgrading', "what: 'discard'"), {
      ...given,
      console: { log: (it: unknown) => said.push(it) },
    })
    expect(said).toMatchObject([{ from: 'test' }])
    expect(await host.sql`select name, adopting from posthaste.installation`).toEqual([
      { name: 'staging', adopting: null },
    ])
  })
})

describe('docs/privacy.md', () => {
  const ACCOUNT = 'acct_42'
  const of = (account: string, data: object) =>
    host.sql`insert into posthaste.events (account, type, data) values (${account}, 'test.happened', ${JSON.stringify(data)})`

  test('erases an account, and somebody; the answer has the members that the page shows', async () => {
    await of(ACCOUNT, { n: 1 })
    await of('another', { affiliate_id: 456 })
    await of('another', { customer: { id: 'c_1' } })
    const erasure = await runSnippet(block('privacy', 'webhooks.erase('), { webhooks: host.webhooks }, 'erasure')
    const shown = JSON.parse(snippetsOf('docs/privacy.md', 'json')[0]!.code) as object
    expect(Object.keys(erasure as object).toSorted()).toEqual(Object.keys(shown).toSorted())
    expect(erasure).toMatchObject({ events: 1 })
    // The customer was asked for in acct_42 only.
    expect(await host.sql`select account, data from posthaste.events`).toEqual([
      { account: 'another', data: '{"customer":{"id":"c_1"}}' },
    ])
  }, 40_000)

  test('exports an account, line by line', async () => {
    await of(ACCOUNT, { n: 1 })
    await of('another', { n: 2 })
    const lines: string[] = []
    const file = { write: (line: string) => lines.push(line) }
    await runSnippet(block('privacy', 'exportData('), { webhooks: host.webhooks, file })
    expect(lines.map((line) => JSON.parse(line))).toMatchObject([{ record: 'event', data: { n: 1 } }])
    expect(lines.every((line) => line.endsWith('\n'))).toBe(true)
  })
})
