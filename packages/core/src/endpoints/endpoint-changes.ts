/** From a checked request to the columns that it changes. */
import type { Store } from '../storage/tables.ts'
import { mergeHeaders } from './endpoint-headers.ts'
import type { EndpointChanges, EndpointRow } from './endpoint-rows.ts'
import { DEFAULT_OVERLAP_SECONDS, type Endpoint, type ReplaceInput, type UpdateInput } from './endpoint-schemas.ts'
import { type EndpointSeals, headerColumns, openHeaders, rotationColumns } from './endpoint-secrets.ts'
import { invalidInput } from './validate-input.ts'

/** What a new endpoint has where nothing is said, and a replaced one too. Its secret is generated, or kept. */
const DEFAULTS = {
  active: true,
  description: null,
  headers: {},
  metadata: {},
  ordering: 'none',
  max_concurrency: null,
  rate_limit: null,
} as const

/** The input with every member but `secret`. */
export function withDefaults(given: ReplaceInput) {
  return {
    url: given.url,
    events: given.events,
    active: given.active ?? DEFAULTS.active,
    description: given.description ?? DEFAULTS.description,
    headers: given.headers ?? DEFAULTS.headers,
    metadata: given.metadata ?? DEFAULTS.metadata,
    ordering: given.ordering ?? DEFAULTS.ordering,
    max_concurrency: given.max_concurrency ?? DEFAULTS.max_concurrency,
    rate_limit: given.rate_limit ?? DEFAULTS.rate_limit,
    ...(given.secret === undefined ? {} : { secret: given.secret }),
  }
}

/**
 * The columns to write; none where nothing was given. A secret other than the current one is a rotation with the default
 * overlap.
 *
 * @throws {PosthasteError} `VALIDATION_FAILED` for a redacted header value with nothing to keep
 */
export function changedColumns(
  store: Store,
  seals: EndpointSeals,
  row: EndpointRow,
  given: UpdateInput,
): EndpointChanges {
  return {
    ...plainColumns(given),
    ...(given.active === true ? { disabled_reason: null, disabled_at: null } : {}),
    ...(given.rate_limit === undefined ? {} : rateColumns(given.rate_limit)),
    ...(given.headers === undefined ? {} : mergedHeaderColumns(seals, row, given.headers)),
    ...(given.secret === undefined ? {} : rotationColumns(store, seals, row, given.secret, DEFAULT_OVERLAP_SECONDS)),
  }
}

/** The columns whose value is the member's own. */
function plainColumns(given: UpdateInput): EndpointChanges {
  const columns: EndpointChanges = {}
  if (given.url !== undefined) columns.url = given.url
  if (given.events !== undefined) columns.events = uniquePatterns(given.events)
  if (given.active !== undefined) columns.active = given.active
  if (given.description !== undefined) columns.description = given.description
  if (given.metadata !== undefined) columns.metadata = JSON.stringify(given.metadata)
  if (given.ordering !== undefined) columns.ordering = given.ordering
  if (given.max_concurrency !== undefined) columns.max_concurrency = given.max_concurrency
  return columns
}

export function uniquePatterns(events: readonly string[]): string[] {
  return [...new Set(events)]
}

export function rateColumns(limit: Endpoint['rate_limit']) {
  return { rate_limit: limit?.limit ?? null, rate_limit_per: limit?.per ?? null }
}

function mergedHeaderColumns(seals: EndpointSeals, row: EndpointRow, given: Record<string, string>) {
  const { headers, errors } = mergeHeaders(given, openHeaders(seals, row))
  if (errors.length > 0) throw invalidInput('The endpoint', errors)
  return headerColumns(seals, row.id, headers)
}
