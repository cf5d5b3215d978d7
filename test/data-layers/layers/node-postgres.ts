import type { QueryTransaction } from '@posthaste/core'
import pg from 'pg'
import { type DataLayer, type Isolation, plainSavepoint, type Scope } from './data-layer.ts'

export const nodePostgres: DataLayer = {
  name: 'node-postgres',
  async open(url, max = 4) {
    const pool = new pg.Pool({ connectionString: url, max })
    const idle = new pg.Client({ connectionString: url })
    await idle.connect()
    return {
      transaction: (work, isolation) =>
        onClient(pool, isolation, (client) =>
          work(plainSavepoint({ tx: client, execute: (text) => client.query(text) })),
        ),
      outside: { pool: () => pool, 'client without BEGIN': () => idle },
      async close() {
        await idle.end()
        await pool.end()
      },
    }
  },
}

/** Older versions and other clients tell nothing about where they stand: the server has to. */
export const bareQuery: DataLayer = {
  name: 'any query(text, values)',
  open: (url, max) => openBare(url, max, (client) => ({ query: (text, values) => client.query(text, values) })),
}

/** What pg-promise and clients for the simple protocol do: values become literals of the text, the rows are the answer. */
export const simpleProtocol: DataLayer = {
  name: 'any query(text, values) by the simple protocol',
  open: (url, max) =>
    openBare(url, max, (client) => ({
      async query(text, values) {
        const literal = (value: unknown) => (value === null ? 'null' : client.escapeLiteral(String(value)))
        const { rows } = await client.query(text.replace(/\$(\d+)/g, (_, n) => literal(values[Number(n) - 1])))
        return rows
      },
    })),
}

async function openBare(url: string, max = 4, clientOf: (client: pg.ClientBase) => QueryTransaction) {
  const pool = new pg.Pool({ connectionString: url, max })
  const idle = new pg.Client({ connectionString: url })
  await idle.connect()
  return {
    transaction: <T>(work: (scope: Scope) => Promise<T>, isolation?: Isolation) =>
      onClient(pool, isolation, (client) =>
        work(plainSavepoint({ tx: clientOf(client), execute: (text) => client.query(text) })),
      ),
    outside: {
      'client without BEGIN': () => clientOf(idle),
      'pool in disguise': () => ({ query: (text: string, values: unknown[]) => pool.query(text, values) }),
    },
    async close() {
      await idle.end()
      await pool.end()
    },
  }
}

export async function onClient<T>(
  pool: pg.Pool,
  isolation: Isolation | undefined,
  work: (client: pg.PoolClient) => Promise<T>,
): Promise<T> {
  const client = await pool.connect()
  try {
    await client.query(`begin isolation level ${isolation ?? 'read committed'}`)
    const result = await work(client)
    await client.query('commit')
    return result
  } catch (error) {
    await client.query('rollback')
    throw error
  } finally {
    client.release()
  }
}
