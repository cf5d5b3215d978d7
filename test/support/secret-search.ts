/** Looks for secrets, in every form in which they are likely to slip out, in everything that a test has collected. */
import { inspect } from 'node:util'
import type postgres from 'postgres'

export interface SecretSearch {
  /** From now on this must not be found. `name` says in a failure what it was. */
  secret(name: string, value: string): void
  /** Text that must not hold a secret; anything else is inspected as deeply as debuggers do. */
  collect(where: string, what: unknown): void
  /** What of the secrets is in this text, by name. */
  find(text: string): string[]
  /** Everything that was found in what was collected: `where: name`. */
  leaks(): string[]
  /** How much was collected. */
  readonly size: number
}

export function createSecretSearch(): SecretSearch {
  const secrets: { name: string; forms: string[] }[] = []
  const texts: { where: string; text: string }[] = []
  const find = (text: string) =>
    secrets.filter(({ forms }) => forms.some((form) => text.includes(form))).map(({ name }) => name)
  return {
    secret: (name, value) => void secrets.push({ name, forms: formsOf(value) }),
    collect: (where, what) => void texts.push({ where, text: typeof what === 'string' ? what : inspectAll(what) }),
    find,
    leaks: () => [...new Set(texts.flatMap(({ where, text }) => find(text).map((name) => `${where}: ${name}`)))],
    get size() {
      return texts.length
    },
  }
}

/** As it is, as its key alone, and both in the encodings that logs and dumps use. */
function formsOf(value: string): string[] {
  const key = value.replace(/^(whsec_|whsk_|Bearer )/, '')
  const encoded = [value, key].flatMap((text) => {
    const bytes = Buffer.from(text, 'utf8')
    const unpadded = bytes.toString('base64').replace(/=+$/, '')
    return [text, JSON.stringify(text).slice(1, -1), encodeURIComponent(text), bytes.toString('hex'), unpadded]
  })
  const decoded = /^[A-Za-z0-9+/]{30,}={0,2}$/.test(key) ? [Buffer.from(key, 'base64').toString('hex')] : []
  return [...new Set([...encoded, ...decoded])]
}

/** Hidden members, symbols, causes and all; getters are not called, since those of zod's prototypes replace its methods. */
export function inspectAll(what: unknown): string {
  const options = { depth: 12, showHidden: true, maxArrayLength: null, maxStringLength: null } as const
  return inspect(what, options)
}

/** Every column of every table of these schemas, as text, by table. */
export async function dumpTables(sql: postgres.Sql, schemas: readonly string[]): Promise<Map<string, string>> {
  const tables = await sql`select format('%I.%I', table_schema, table_name) as name from information_schema.tables
    where table_schema = any (${schemas as string[]}) and table_type = 'BASE TABLE'`
  const dump = new Map<string, string>()
  for (const { name } of tables) {
    const rows = await sql.unsafe(`select t::text as line from ${name} t`)
    dump.set(name as string, rows.map((row) => row.line as string).join('\n'))
  }
  return dump
}
