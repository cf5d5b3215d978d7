/**
 * `Idempotency-Key`: a POST that is repeated within a day answers as the first one did. The answer is kept in the transaction
 * of the write itself, so that there is never one without the other, and sealed, since it may hold a secret.
 */
import { createHash } from 'node:crypto'
import { PosthasteError } from '../errors.ts'
import type { Keyring } from '../signing/keyring.ts'
import { isSameSecret } from '../signing/same-secret.ts'
import { findKeptAnswer, KEPT_HOURS, keepAnswer, keptAnswerSealContext } from '../storage/kept-answers.ts'
import type { PreparedWrite, Queries, Store, WriteScope } from '../storage/tables.ts'
import type { ApiResult } from './routes.ts'

/** In characters. */
export const MAX_KEY_LENGTH = 255

/** What makes two requests the same. */
export interface KeyedRequest {
  account: string
  key: string
  /** Method and path, placeholders filled in. */
  operation: string
  body: Uint8Array
}

export interface Idempotency {
  /**
   * The kept answer, or that of the write, which runs in one transaction; null runs it without a key. Refused writes are not kept: the key can be used again.
   *
   * @throws {PosthasteError} `IDEMPOTENCY_KEY_REUSED` where the key came with another request
   */
  run(request: KeyedRequest | null, prepare: () => Promise<PreparedWrite<ApiResult>>): Promise<ApiResult>
}

/**
 * The key of a request, or null without one.
 *
 * @throws {PosthasteError} `IDEMPOTENCY_KEY_INVALID`
 */
export function idempotencyKey(headers: Headers): string | null {
  const key = headers.get('idempotency-key')
  if (key === null) return null
  if (key.length <= MAX_KEY_LENGTH && /^[\x21-\x7e]+$/.test(key)) return key
  throw new PosthasteError(
    'IDEMPOTENCY_KEY_INVALID',
    `Idempotency-Key must be 1 to ${MAX_KEY_LENGTH} characters of visible ASCII.`,
    { errors: [{ path: 'Idempotency-Key', message: `must be 1 to ${MAX_KEY_LENGTH} characters of visible ASCII` }] },
  )
}

export function createIdempotency(store: Store, seals: Pick<Keyring, 'seal' | 'open'>): Idempotency {
  async function find(queries: Queries, request: KeyedRequest): Promise<ApiResult | null> {
    const kept = await findKeptAnswer(store, queries, request.account, request.key)
    if (kept === null) return null
    if (!isSameSecret(fingerprint(request), seals.open(kept.fingerprint, sealContext(request, 'fingerprint')))) {
      throw new PosthasteError(
        'IDEMPOTENCY_KEY_REUSED',
        `This Idempotency-Key came with another request within the last ${KEPT_HOURS} hours: use a new one.`,
      )
    }
    const answer: ApiResult = JSON.parse(seals.open(kept.answer, sealContext(request, 'answer')))
    return { ...answer, headers: { ...answer.headers, 'idempotency-replayed': 'true' } }
  }

  async function keep(scope: WriteScope, request: KeyedRequest, answer: ApiResult): Promise<void> {
    await keepAnswer(store, scope, request.account, request.key, {
      fingerprint: seals.seal(fingerprint(request), sealContext(request, 'fingerprint')),
      answer: seals.seal(JSON.stringify(answer), sealContext(request, 'answer')),
    })
  }

  return {
    async run(request, prepare) {
      if (request === null) return await store.write(await prepare())
      // A repetition is answered even where the same request would be refused by now.
      const kept = await store.read((queries) => find(queries, request))
      if (kept !== null) return kept
      const write = await prepare()
      return await store.write(async (scope) => {
        await store.lock(scope, `idempotency ${request.key} of ${request.account}`)
        const meanwhile = await find(scope.queries, request)
        if (meanwhile !== null) return meanwhile
        const answer = await write(scope)
        await keep(scope, request, answer)
        return answer
      })
    },
  }
}

/** Sealed, too: a plain hash of a body with a weak secret in it would let that secret be guessed. */
function fingerprint({ operation, body }: KeyedRequest): string {
  return createHash('sha256').update(operation).update('\n').update(body).digest('base64')
}

function sealContext({ account, key }: KeyedRequest, column: 'answer' | 'fingerprint'): string {
  return keptAnswerSealContext(account, key, column)
}
