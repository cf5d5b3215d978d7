import { PosthasteError } from '../errors.ts'

const NAME = /^[a-z_][a-z0-9_]{0,40}$/

/**
 * Checks a schema name that a host chose. It is put into SQL text (names cannot be parameters), so only what needs no
 * quoting is allowed.
 *
 * @throws PosthasteError CONFIG_INVALID
 */
export function checkSchemaName(name: string, option: string): string {
  if (NAME.test(name) && !name.startsWith('pg_')) return name
  throw new PosthasteError(
    'CONFIG_INVALID',
    `${option} must be a lower-case SQL name of at most 41 letters, digits and underscores that does not begin with pg_.`,
  )
}
