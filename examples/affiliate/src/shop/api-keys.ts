import { createHash, timingSafeEqual } from 'node:crypto'
import type { Permission } from '@posthaste/core'
import { HttpProblem } from './problems.ts'

/** Who is calling, once the key has been recognised. */
export interface Caller {
  /** For `approved_by` and the like. */
  name: string
  /** What the caller may do with webhooks. */
  permissions: readonly Permission[]
}

export interface ApiKey extends Caller {
  /** `sk_live_…`; only its hash is kept. */
  key: string
}

export interface ApiKeys {
  /** The caller of an `Authorization: Bearer sk_live_…` header; null for anything else. */
  recognise(authorization: string | undefined): Caller | null
  /** As `recognise`. @throws HttpProblem 401; the answer is to carry `WWW-Authenticate: Bearer` */
  require(authorization: string | undefined): Caller
}

export function createApiKeys(keys: readonly ApiKey[]): ApiKeys {
  const known = keys.map(({ key, name, permissions }) => ({ hash: sha256(key), caller: { name, permissions } }))
  const keyring: ApiKeys = {
    recognise(authorization) {
      const key = /^Bearer (sk_live_\S+)$/i.exec(authorization ?? '')?.[1]
      if (key === undefined) return null
      const hash = sha256(key)
      // Every key is compared, and hashes of equal length are, so that the time taken says nothing about any of them.
      let caller: Caller | null = null
      for (const candidate of known) if (timingSafeEqual(candidate.hash, hash)) caller = candidate.caller
      return caller
    },
    require(authorization) {
      const caller = keyring.recognise(authorization)
      if (caller) return caller
      throw new HttpProblem({ status: 401, code: 'UNAUTHENTICATED', detail: 'Send Authorization: Bearer sk_live_…' })
    },
  }
  return keyring
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
