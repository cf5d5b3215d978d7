/** A host with a database of its own on any server, and what is looked at in it. */
import { randomBytes } from 'node:crypto'
import { createWebhooks } from '@posthaste/core'
import postgres from 'postgres'
import { withAdmin } from '../../support/test-databases.ts'
import {
  type TestOptions,
  type TestWebhooks,
  type testEvents,
  withTestOptions,
} from '../../support/webhooks-under-test.ts'

export interface Host {
  /** Of the superuser. */
  url: string
  /** The superuser's own client. */
  sql: postgres.Sql
  webhooks: TestWebhooks
  /** Another object; stopped with the rest. `database` replaces the superuser's URL. */
  another(options?: TestOptions): TestWebhooks
  /** Numbers of the host's own rows, and of the events in the order of their ids. */
  state(): Promise<{ orders: number[]; events: number[] }>
  /** Runs `work` with the URL of a new role that may do what `grants` say, `role` standing for its name; then drops it. */
  asRole<T>(grants: (role: string) => string, work: (url: string, role: string) => Promise<T>): Promise<T>
  clear(): Promise<void>
  stop(): Promise<void>
}

/** @param prefix what the name of every database of this test run begins with */
export async function openHost(adminUrl: string, prefix: string): Promise<Host> {
  const name = `${prefix}${randomBytes(5).toString('hex')}`
  await withAdmin(adminUrl, (admin) => admin`create database ${admin(name)} template template0`)
  const url = new URL(adminUrl)
  url.pathname = `/${name}`
  const sql = postgres(url.href, { max: 4, onnotice: () => {} })
  const made: TestWebhooks[] = []
  const another = (options: TestOptions = {}): TestWebhooks => {
    const webhooks = createWebhooks<typeof testEvents>(withTestOptions(url.href, options))
    made.push(webhooks)
    return webhooks
  }
  const webhooks = another()
  await webhooks.migrate()
  await sql.unsafe(`
    create table orders (n int primary key, status text);
    create table counters (id int primary key, value int not null);
    insert into counters values (1, 0);`)
  return {
    url: url.href,
    sql,
    webhooks,
    another,
    async state() {
      const orders = await sql<{ n: number }[]>`select n from orders order by n`
      const events = await sql<{ data: string }[]>`select data from posthaste.events order by id`
      return { orders: orders.map(({ n }) => n), events: events.map(({ data }) => JSON.parse(data).n as number) }
    },
    async asRole(grants, work) {
      const role = `${name}_role_${randomBytes(3).toString('hex')}`
      const password = randomBytes(8).toString('hex')
      await sql.unsafe(`create role ${role} login password '${password}'; ${grants(role)}`)
      const roleUrl = new URL(url)
      roleUrl.username = role
      roleUrl.password = password
      try {
        return await work(roleUrl.href, role)
      } finally {
        await sql.unsafe(`drop owned by ${role}; drop role ${role}`)
      }
    },
    clear: async () => {
      await sql.unsafe(
        'delete from orders; delete from posthaste.events; delete from posthaste.subscriptions; update counters set value = 0',
      )
    },
    async stop() {
      await Promise.all(made.map((one) => one.stop()))
      await sql.end({ timeout: 5 })
      await withAdmin(adminUrl, (admin) => admin`drop database if exists ${admin(name)} with (force)`)
    },
  }
}
