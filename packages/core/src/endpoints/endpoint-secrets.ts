/** Sealing of what an endpoint keeps secret, and the change of its signing secret. */

import type { Keyring } from '../signing/keyring.ts'
import { isSameSecret } from '../signing/same-secret.ts'
import { standardWebhooksSecret } from '../signing/signing-secret.ts'
import { type SQL, sql } from '../storage/orm.ts'
import { endpointSealContext, type SealedEndpointColumn, type Store } from '../storage/tables.ts'
import type { EndpointRow } from './endpoint-rows.ts'
import type { EndpointSecret } from './endpoint-schemas.ts'

export type EndpointSeals = Pick<Keyring, 'seal' | 'open'>

export function sealColumn(seals: EndpointSeals, uuid: string, column: SealedEndpointColumn, value: string): string {
  return seals.seal(value, endpointSealContext(uuid, column))
}

export function openColumn(seals: EndpointSeals, uuid: string, column: SealedEndpointColumn, sealed: string): string {
  return seals.open(sealed, endpointSealContext(uuid, column))
}

/** The columns of a set of custom headers: values sealed together, names readable for answers and the log. */
export function headerColumns(
  seals: EndpointSeals,
  uuid: string,
  headers: Readonly<Record<string, string>>,
): { headers: string | null; header_names: string[] } {
  const names = Object.keys(headers)
  if (names.length === 0) return { headers: null, header_names: [] }
  return { headers: sealColumn(seals, uuid, 'headers', JSON.stringify(headers)), header_names: names }
}

export function openHeaders(seals: EndpointSeals, row: EndpointRow): Record<string, string> {
  return row.headers === null ? {} : JSON.parse(openColumn(seals, row.id, 'headers', row.headers))
}

export interface SecretColumns {
  secret: string
  secret_number: number
  previous_secret: string | null
  previous_until: SQL | null
  previous_accepted: boolean
}

/**
 * The columns of a rotation, or null where the secret is the current one already. For `overlapSeconds` both are valid, and
 * signatures with room for one are made with the old one until the receiver accepts the new one.
 *
 * There is room for one old secret: rotating again within the overlap ends that of the secret before.
 */
export function rotationColumns(
  store: Store,
  seals: EndpointSeals,
  row: EndpointRow,
  secret: string,
  overlapSeconds: number,
): SecretColumns | null {
  const current = openColumn(seals, row.id, 'secret', row.secret)
  if (isSameSecret(secret, current)) return null
  const overlaps = overlapSeconds > 0
  return {
    secret: sealColumn(seals, row.id, 'secret', secret),
    secret_number: row.secret_number + 1,
    previous_secret: overlaps ? sealColumn(seals, row.id, 'previous_secret', current) : null,
    previous_until: overlaps ? sql`${store.clock} + make_interval(secs => ${overlapSeconds})` : null,
    previous_accepted: overlaps,
  }
}

export function shownSecret(secret: string): EndpointSecret {
  return { secret, standard_webhooks_secret: standardWebhooksSecret(secret) }
}
