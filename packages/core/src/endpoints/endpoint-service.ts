/**
 * Endpoints: where an account's events go. The methods behind the API's routes, and for hosts that build an interface of
 * their own. Each write is one transaction with the endpoint, its subscriptions, and a command for the owner of its lane.
 */
import * as z from 'zod'
import type { AnyCatalog } from '../catalog/define-events.ts'
import { PosthasteError } from '../errors.ts'
import type { UrlVerdict } from '../http-client/url-policy.ts'
import { toPublicId } from '../ids.ts'
import { generateSecret } from '../signing/signing-secret.ts'
import type { PreparedWrite, Store, WriteScope } from '../storage/tables.ts'
import { changedColumns, rateColumns, uniquePatterns, withDefaults } from './endpoint-changes.ts'
import { mergeHeaders } from './endpoint-headers.ts'
import * as rows from './endpoint-rows.ts'
import {
  type CreateEndpoint,
  DEFAULT_OVERLAP_SECONDS,
  type Endpoint,
  type EndpointInputSchemas,
  type EndpointSecret,
  type EndpointWithSecret,
  endpointInputSchemas,
  type ReplaceEndpoint,
  type RotateSecret,
  type UpdateEndpoint,
  type UpdateInput,
} from './endpoint-schemas.ts'
import {
  type EndpointSeals,
  headerColumns,
  openColumn,
  rotationColumns,
  sealColumn,
  shownSecret,
} from './endpoint-secrets.ts'
import { decodeCursor, encodeCursor, type Page, type PageQuery, pageQueryMembers } from './page-cursor.ts'
import { invalidInput, validateInput } from './validate-input.ts'

/** Endpoints of one account where the host says nothing: more than an owner manages by hand, and one event may go to all. */
export const DEFAULT_MAX_ENDPOINTS_PER_ACCOUNT = 1_000

export interface EndpointServiceOptions {
  store: Store
  /** The event types that endpoints may subscribe to. */
  catalog: AnyCatalog
  /** Seals signing secrets and the values of custom headers. */
  keyring: EndpointSeals
  /** Whether an endpoint may have this URL; looks its name up. */
  checkUrl(url: string): Promise<UrlVerdict>
  /** Endpoints of one account, deleted ones not counted. Default 1,000. */
  maxEndpointsPerAccount?: number
  /** Called after each commit that appended a command, so that the dispatcher of this process looks at once. */
  onChange?(): void
}

export interface EndpointQuery extends PageQuery {
  /** Only those whose owner wants them active, or not. */
  active?: boolean | undefined
}

/**
 * An account's endpoints. Every method is given the account and finds nothing outside of it: another account's endpoint is
 * `NOT_FOUND`.
 *
 * Input is checked before the database is touched: `VALIDATION_FAILED`, `UNKNOWN_EVENT_TYPE`, `SECRET_INVALID` and
 * `URL_REFUSED` carry the list of what is wrong in `errors`.
 */
export interface Endpoints {
  /** @throws {PosthasteError} `ENDPOINT_LIMIT_REACHED`, and as above */
  create(account: string, input: CreateEndpoint): Promise<EndpointWithSecret>
  /** Newest first. */
  list(account: string, query?: EndpointQuery): Promise<Page<Endpoint>>
  get(account: string, id: string): Promise<Endpoint>
  /** Changes the members given; `headers` and `metadata` each as a whole. */
  update(account: string, id: string, input: UpdateEndpoint): Promise<Endpoint>
  /** Sets every member, those left out to what a new endpoint has; an omitted `secret` is kept. */
  replace(account: string, id: string, input: ReplaceEndpoint): Promise<Endpoint>
  /** Nothing more is sent to it; what waited is cancelled, and its secrets are erased. */
  remove(account: string, id: string): Promise<void>
  /** A new signing secret, given or generated, beside which the old one stays valid for `overlap_seconds`. */
  rotateSecret(account: string, id: string, input?: RotateSecret): Promise<EndpointWithSecret>
  /** The current signing secret, for an owner who lost it. */
  revealSecret(account: string, id: string): Promise<EndpointSecret>
}

/** What the routes use besides. */
export interface EndpointService extends Endpoints {
  /** The schemas of the inputs; the API's document is made of them. */
  readonly schemas: EndpointInputSchemas
  /** `create` in two steps: what can be checked without the database, then the write in a transaction of the caller's. */
  prepareCreate(account: string, input: unknown): Promise<PreparedWrite<EndpointWithSecret>>
  /** `rotateSecret` in two steps, as `prepareCreate`. */
  prepareRotateSecret(account: string, id: string, input: unknown): Promise<PreparedWrite<EndpointWithSecret>>
}

const listQuery = z.strictObject({ ...pageQueryMembers, active: z.boolean().optional() })

export function createEndpointService(options: EndpointServiceOptions): EndpointService {
  const { store, keyring } = options
  const schemas = endpointInputSchemas(options.catalog)
  const maxEndpoints = options.maxEndpointsPerAccount ?? DEFAULT_MAX_ENDPOINTS_PER_ACCOUNT

  async function requireUrl(url: string): Promise<void> {
    const verdict = await options.checkUrl(url)
    if (!verdict.ok) throw invalidInput('The endpoint', [{ path: 'url', message: verdict.message }], 'URL_REFUSED')
  }

  async function command(scope: WriteScope, kind: rows.EndpointCommand, endpoint: number): Promise<void> {
    await rows.appendCommand(store, scope, kind, endpoint)
    scope.afterCommit(() => options.onChange?.())
  }

  /** Writes changed columns and all that follows from them. */
  async function apply(scope: WriteScope, row: rows.EndpointRow, changes: rows.EndpointChanges): Promise<void> {
    if (changes.secret !== undefined) await rows.retireSecret(store, scope, row)
    const changed = await rows.updateEndpoint(store, scope, row, changes)
    const resumed = rows.isServed(changed) && !rows.isServed(row)
    if (resumed) await rows.resetHealth(store, scope, row.no)
    if (changes.events !== undefined || rows.isServed(changed) !== rows.isServed(row)) {
      await rows.writeSubscriptions(store, scope, changed)
    }
    await command(scope, resumed ? 'resume' : 'config', row.no)
  }

  async function change(account: string, id: string, given: UpdateInput): Promise<Endpoint> {
    if (given.url !== undefined) await requireUrl(given.url)
    return await store.write(async (scope) => {
      const row = await rows.lockEndpoint(store, scope, account, id)
      const changes = changedColumns(store, keyring, row, given)
      if (Object.keys(changes).length > 0) await apply(scope, row, changes)
      return await rows.findEndpoint(store, scope.queries, account, id)
    })
  }

  async function prepareCreate(account: string, input: unknown): Promise<PreparedWrite<EndpointWithSecret>> {
    const given = withDefaults(validateInput(schemas.create, input, 'The endpoint'))
    const { headers, errors } = mergeHeaders(given.headers, {})
    if (errors.length > 0) throw invalidInput('The endpoint', errors)
    await requireUrl(given.url)
    const secret = given.secret ?? generateSecret()

    return async (scope) => {
      await store.lock(scope, `endpoints of ${account}`)
      if ((await rows.countEndpoints(store, scope, account)) >= maxEndpoints) {
        throw new PosthasteError(
          'ENDPOINT_LIMIT_REACHED',
          `This account has ${maxEndpoints} endpoints, and no more are possible: delete one first.`,
        )
      }
      const id = await rows.newEndpointId(store, scope)
      const row = await rows.insertEndpoint(store, scope, {
        id,
        account,
        url: given.url,
        events: uniquePatterns(given.events),
        active: given.active,
        description: given.description,
        metadata: JSON.stringify(given.metadata),
        secret: sealColumn(keyring, id, 'secret', secret),
        ...headerColumns(keyring, id, headers),
        ordering: given.ordering,
        max_concurrency: given.max_concurrency,
        ...rateColumns(given.rate_limit),
      })
      await rows.writeSubscriptions(store, scope, row)
      await command(scope, 'config', row.no)
      return {
        ...(await rows.findEndpoint(store, scope.queries, account, toPublicId('ep', row.id))),
        ...shownSecret(secret),
      }
    }
  }

  async function prepareRotateSecret(
    account: string,
    id: string,
    input: unknown,
  ): Promise<PreparedWrite<EndpointWithSecret>> {
    const given = validateInput(schemas.rotateSecret, input ?? {}, 'The rotation')
    const secret = given.secret ?? generateSecret()
    return async (scope) => {
      const row = await rows.lockEndpoint(store, scope, account, id)
      const columns = rotationColumns(store, keyring, row, secret, given.overlap_seconds ?? DEFAULT_OVERLAP_SECONDS)
      if (columns !== null) await apply(scope, row, columns)
      return { ...(await rows.findEndpoint(store, scope.queries, account, id)), ...shownSecret(secret) }
    }
  }

  return {
    schemas,
    prepareCreate,
    prepareRotateSecret,
    create: async (account, input) => await store.write(await prepareCreate(account, input)),
    rotateSecret: async (account, id, input) => await store.write(await prepareRotateSecret(account, id, input)),

    async list(account, query = {}) {
      const { limit, cursor, active } = validateInput(listQuery, query, 'The query')
      const after = cursor === undefined ? null : decodeCursor(cursor)
      const found = await store.read((queries) =>
        rows.listEndpoints(store, queries, account, { limit, after, active: active ?? null }),
      )
      const page = found.slice(0, limit)
      const last = page.at(-1)
      return {
        data: page.map(({ endpoint }) => endpoint),
        next_cursor: found.length > limit && last !== undefined ? encodeCursor(last.uuid) : null,
      }
    },

    get: async (account, id) => await store.read((queries) => rows.findEndpoint(store, queries, account, id)),
    update: async (account, id, input) => await change(account, id, validateInput(schemas.update, input, 'The change')),

    async replace(account, id, input) {
      const given = withDefaults(validateInput(schemas.replace, input, 'The endpoint'))
      return await change(account, id, given)
    },

    async remove(account, id) {
      await store.write(async (scope) => {
        const row = await rows.lockEndpoint(store, scope, account, id)
        await rows.retireSecret(store, scope, row)
        const erased = { secret: '', previous_secret: null, previous_until: null, headers: null }
        const gone = await rows.updateEndpoint(store, scope, row, { ...erased, deleted_at: store.clock })
        await rows.writeSubscriptions(store, scope, gone)
        await command(scope, 'deleted', row.no)
      })
    },

    async revealSecret(account, id) {
      const { uuid, sealed } = await store.read((queries) => rows.findSealedSecret(store, queries, account, id))
      return shownSecret(openColumn(keyring, uuid, 'secret', sealed))
    },
  }
}
