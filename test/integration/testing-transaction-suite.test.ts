/** The transaction suite: a right adapter passes, and every case is failed by an adapter with the fault that it is there for. */
import {
  checkTransactionAdapter,
  type OpenTransactionSuite,
  openTransactionSuite,
  type TransactionAdapter,
  type TransactionScope,
  type TransactionSuite,
  transactionCases,
} from '@posthaste/core/testing'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'

let database: TestDatabase
let pool: pg.Pool
let suite: OpenTransactionSuite
beforeAll(async () => {
  database = await createTestDatabase()
  pool = new pg.Pool({ connectionString: database.url, max: 6 })
  suite = await openTransactionSuite({ database: database.url, adapter: adapter() })
})
afterAll(async () => {
  await suite.close()
  await pool.end()
  await database.drop()
})

interface Faults {
  /** Commits whatever became of the work. */
  commitsAnyway?: boolean
  /** Begins with the host's first own statement. */
  beginsLate?: boolean
  /** Its savepoints are none. */
  keepsSavepoints?: boolean
  /** A savepoint begins with the host's first own statement in it. */
  savesLate?: boolean
  /** Answers rows in another order. */
  turnsRows?: boolean
  /** Remembers that there was nothing. */
  caches?: boolean
  /** Has its own idea of text. */
  normalises?: boolean
  /** Its objects go on after their transaction, in others. */
  reopens?: boolean
  /** Takes no isolation level. */
  ignoresIsolation?: boolean
}

/** A data layer of `query(text, values)`, as simple as it can be. */
function adapter(faults: Faults = {}): TransactionAdapter {
  return {
    async transaction(work, isolation) {
      const client = await pool.connect()
      const connection = new Connection(client, faults)
      const level = isolation === undefined || faults.ignoresIsolation ? '' : `isolation level ${isolation}`
      try {
        await connection.begin(`begin ${level}`)
        const result = await work(scopeOf(connection, faults))
        await connection.end('commit')
        return result
      } catch (error) {
        await connection.end(faults.commitsAnyway ? 'commit' : 'rollback')
        throw error
      } finally {
        client.release()
      }
    },
    outside: { pool: () => pool },
  }
}

class Connection {
  readonly #client: pg.PoolClient
  readonly #faults: Faults
  readonly #empty = new Set<string>()
  #late: string[] = []
  #begun = false
  #over = false
  readonly #afterwards = selfOpening()

  constructor(client: pg.PoolClient, faults: Faults) {
    this.#client = client
    this.#faults = faults
  }

  async begin(statement: string): Promise<void> {
    if (this.#faults.beginsLate) this.#late.push(statement)
    else await this.#client.query(statement)
    this.#begun = !this.#faults.beginsLate
  }

  async end(statement: string): Promise<void> {
    if (this.#begun) await this.#client.query(statement)
    this.#over = true
  }

  /** Sent before the host's next own statement. */
  later(statement: string): void {
    this.#late.push(statement)
  }

  get waits(): boolean {
    return this.#late.length > 0
  }

  forget(): void {
    this.#late = []
  }

  async execute(sql: string): Promise<unknown> {
    for (const statement of this.#late.splice(0)) await this.#client.query(statement)
    this.#begun = true
    return await this.#client.query(sql)
  }

  async query(text: string, values: unknown[]): Promise<{ rows: Record<string, unknown>[] }> {
    const { normalises, caches, turnsRows, reopens } = this.#faults
    if (this.#over && reopens) return await this.#afterwards.query(text, values)
    if (caches && this.#empty.has(text)) return { rows: [{ id: null, xid: null }] }
    const sent = normalises ? values.map((value) => (typeof value === 'string' ? value.normalize() : value)) : values
    const { rows } = await this.#client.query(text, sent)
    if (rows.length === 1 && rows[0].id === null) this.#empty.add(text)
    return { rows: turnsRows && rows.length > 10 ? rows.toReversed() : rows }
  }
}

function scopeOf(connection: Connection, faults: Faults): TransactionScope {
  const scope: TransactionScope = {
    tx: { query: (text: string, values: unknown[]) => connection.query(text, values) },
    execute: (sql) => connection.execute(sql),
    async savepoint(work) {
      if (faults.savesLate) connection.later('savepoint inner_part')
      else if (!faults.keepsSavepoints) await connection.execute('savepoint inner_part')
      try {
        await work(scope)
      } catch (error) {
        if (connection.waits) connection.forget()
        else if (!faults.keepsSavepoints) await connection.execute('rollback to savepoint inner_part')
        throw error
      }
      connection.forget()
    },
  }
  return scope
}

/**
 * Begins a transaction by itself where there is none, and commits it as soon as something was written: each emit succeeds, and
 * belongs to nothing. (One that does so for each statement is refused by emit itself.)
 */
function selfOpening() {
  let client: pg.PoolClient | null = null
  return {
    async query(text: string, values: unknown[]): Promise<{ rows: Record<string, unknown>[] }> {
      if (client === null) {
        client = await pool.connect()
        await client.query('begin')
      }
      const answer = await client.query(text, values)
      if (answer.rows.length > 0 && 'id' in answer.rows[0]) {
        await client.query('commit')
        client.release()
        client = null
      }
      return answer
    },
  }
}

async function failed(over: Partial<TransactionSuite>): Promise<string[]> {
  const names: string[] = []
  for (const { name, run } of transactionCases) {
    await suite.clear()
    await run({ ...suite, ...over }).catch(() => names.push(name))
  }
  return names
}

const named = (...parts: string[]) =>
  transactionCases.map(({ name }) => name).filter((name) => parts.some((part) => name.includes(part)))

test('an adapter that does as it should passes', async () => {
  expect(await failed({ adapter: adapter() })).toEqual([])
  const report = await checkTransactionAdapter({ database: database.url, adapter: adapter() })
  expect([report.passed, report.results.length]).toEqual([true, transactionCases.length])
})

describe('an adapter with a fault is told by the case that is there for it', () => {
  test.each<[string, Faults, string[]]>([
    ['commits anyway', { commitsAnyway: true }, ['a commit keeps', 'has ended']],
    [
      'begins late',
      { beginsLate: true },
      [
        'may be the first thing',
        'many events',
        'stored only for',
        'byte for byte',
        'has ended',
        'serializable',
        'repeatable',
      ],
    ],
    ['has no savepoints', { keepsSavepoints: true }, ['rolled back to a savepoint', 'first in a savepoint']],
    ['makes savepoints late', { savesLate: true }, ['first in a savepoint']],
    ['turns rows around', { turnsRows: true }, ['many events']],
    ['remembers that there was nothing', { caches: true }, ['stored only for']],
    ['has its own idea of text', { normalises: true }, ['byte for byte']],
    ['goes on after the end', { reopens: true }, ['has ended']],
    ['ignores the isolation level', { ignoresIsolation: true }, ['repeatable read', 'serializable']],
  ])('%s', async (_name, faults, cases) => {
    expect(await failed({ adapter: adapter(faults) })).toEqual(named(...cases))
  })

  test('gives out as a transaction what is none', async () => {
    const outside = { client: selfOpening }
    expect(await failed({ adapter: { ...adapter(), outside } })).toEqual(named('what is no transaction'))
  })

  test('asks the server whether input is bad', async () => {
    const { webhooks } = suite
    const asking: typeof webhooks = {
      ...webhooks,
      async emit(type, data, options) {
        try {
          return await webhooks.emit(type, data, options)
        } catch (error) {
          await (options.tx as { query(text: string, values: unknown[]): Promise<unknown> })
            .query('select 1 / 0', [])
            .catch(() => {})
          throw error
        }
      },
    }
    expect(await failed({ webhooks: asking })).toContain(named('after bad input')[0])
  })

  test('the report says what was wrong', async () => {
    const report = await checkTransactionAdapter({ database: database.url, adapter: adapter({ commitsAnyway: true }) })
    expect(report.passed).toBe(false)
    expect(String(report)).toMatch(
      /^✗ a commit keeps row and event, a rollback neither \(\d+ ms\): the host's own rows/,
    )
  })
})
