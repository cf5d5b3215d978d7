/**
 * What making sure of the transaction in the server costs, next to the plain insert: the figures of docs/transactions.md.
 * `node --conditions=posthaste-source test/data-layers/measure-guard.ts [rounds]`. The variants take turns, one transaction each.
 */
import { createWebhooks, type HostTransaction } from '@posthaste/core'
import pg from 'pg'
import { emitStatements } from '../../packages/core/src/emit/emit-statements.ts'
import { startPostgres } from '../support/embedded-postgres.ts'

const rounds = Number(process.argv[2] ?? 3_000)
const server = await startPostgres()
const webhooks = createWebhooks({ database: server.url, installation: 'measure', secretStorage: 'plain' })
await webhooks.migrate()
const client = new pg.Client({ connectionString: server.url })
await client.connect()
await client.query('create table conversions (id bigint generated always as identity primary key, amount numeric)')
// The same as emit's function would be for a role that may only call it.
await client.query(`create function posthaste.emit_for(a text, t text, d text) returns text language sql security definer
  set search_path = pg_catalog, pg_temp begin atomic
    insert into posthaste.events (account, type, data) values (a, t, d) returning id::text;
  end`)

const data = JSON.stringify(webhooks.catalog.definitions['commission.approved'].example)
const values = ['default', 'commission.approved', data, null, null]
const { always } = emitStatements('posthaste', 0, 'mark')
// As hosts mostly use node-postgres: planned anew each time. Or, as postgres.js and others do, prepared once.
let prepared = false
const run = (name: string, text: string, parameters: unknown[]) =>
  client.query(prepared ? { name, text, values: parameters } : { text, values: parameters })
const business = () => run('business', 'insert into conversions (amount) values ($1)', ['85.5'])
// Hidden behind an object of its own, the client vouches for nothing.
const bare = { query: (text: string, parameters: unknown[]) => run(`emit ${text.length}`, text, parameters) }
const commission = { ...webhooks.catalog.definitions['commission.approved'].example }
const emitIn = (tx: HostTransaction) => () => webhooks.emit('commission.approved', commission, { tx })

const variants: Record<string, { first?: boolean; emit: () => Promise<unknown> }> = {
  'plain insert': { emit: () => run('plain', always.plain, values) },
  'guarded insert': { emit: () => run('inside', always.inside, values) },
  'security definer function': {
    emit: () => run('definer', 'select posthaste.emit_for($1, $2, $3)', values.slice(0, 3)),
  },
  emit: { emit: emitIn(bare) },
  'first in its transaction: plain insert': { first: true, emit: () => run('plain', always.plain, values) },
  'first in its transaction: emit': { first: true, emit: emitIn(bare) },
}
const names = Object.keys(variants)
const median = (all: number[]) => all.toSorted((a, b) => a - b)[all.length >> 1] as number

async function measure(): Promise<void> {
  const times = new Map(names.map((name) => [name, { statement: [] as number[], transaction: [] as number[] }]))
  for (let round = -200; round < rounds; round++) {
    for (let turn = 0; turn < names.length; turn++) {
      const name = names[(turn + Math.abs(round)) % names.length] as string
      const { first = false, emit } = variants[name] as (typeof variants)[string]
      const began = performance.now()
      await client.query('begin')
      if (!first) await business()
      const emitting = performance.now()
      await emit()
      const emitted = performance.now()
      if (first) await business()
      await client.query('commit')
      if (round < 0) continue
      times.get(name)?.statement.push(emitted - emitting)
      times.get(name)?.transaction.push(performance.now() - began)
    }
  }
  const of = (name: string) => {
    const { statement, transaction } = times.get(name) as { statement: number[]; transaction: number[] }
    return { statement: median(statement), transaction: median(transaction) }
  }
  for (const name of names) {
    const floor = of(variants[name]?.first ? 'first in its transaction: plain insert' : 'plain insert')
    const { statement, transaction } = of(name)
    const ratio = (a: number, b: number) => `${(a * 1_000).toFixed(0).padStart(5)} µs  ${(a / b).toFixed(2)}×`
    console.log(
      `${name.padEnd(40)} ${ratio(statement, floor.statement)}   transaction ${ratio(transaction, floor.transaction)}`,
    )
  }
}

for (prepared of [true, false]) {
  console.log(prepared ? '\nprepared once' : '\nplanned each time')
  await measure()
}
await client.end()
await webhooks.stop()
await server.stop('immediate')
