/** Who may do what. Authentication is the host's; this only asks it and compares permissions. */
import { resolveAccount } from '../emit/wire-event.ts'
import { PosthasteError } from '../errors.ts'

/**
 * What a caller may do: `read` everything but secrets, `write` endpoints, read `secrets` (never implied by another one),
 * `test` an endpoint with an example, `replay` and retry deliveries. None implies another.
 */
export type Permission = 'read' | 'write' | 'secrets' | 'test' | 'replay'

/** What the host says of an authenticated caller. */
export interface Authorization {
  /** Whose endpoints and events these are, up to 128 characters. Left out or `default` with `tenancy: 'single'`. */
  account?: string
  permissions: Iterable<Permission>
}

/**
 * The host's own authentication, given the request as its framework made it. Null (or undefined) answers 401. What it throws
 * goes to the framework's error handling.
 */
export type Authorize<FrameworkRequest> = (
  request: FrameworkRequest,
) => Authorization | null | undefined | Promise<Authorization | null | undefined>

/**
 * The account to work in.
 *
 * @throws {PosthasteError} `UNAUTHENTICATED`; `FORBIDDEN` without the permission; `ACCOUNT_REQUIRED`, `ACCOUNT_INVALID` where
 * the host's answer makes no sense (which is the host's mistake, and answered as an internal error)
 */
export function permittedAccount(
  authorization: Authorization | null | undefined,
  permission: Permission,
  tenancy: 'single' | 'multi',
): string {
  if (authorization === null || authorization === undefined) {
    throw new PosthasteError('UNAUTHENTICATED', 'Authenticate first: the request carries no valid credentials.', {
      // RFC 9110, 11.6.1 wants a challenge; how to authenticate is the host's, and most APIs take bearer tokens.
      headers: { 'www-authenticate': 'Bearer' },
    })
  }
  const account = requireAccount(authorization, tenancy)
  if (!new Set(authorization.permissions).has(permission)) {
    throw new PosthasteError('FORBIDDEN', `This needs the permission "${permission}".`)
  }
  return account
}

function requireAccount(authorization: Authorization, tenancy: 'single' | 'multi'): string {
  try {
    return resolveAccount(tenancy, authorization.account)
  } catch (cause) {
    if (!(cause instanceof PosthasteError)) throw cause
    throw new PosthasteError('CONFIG_INVALID', `authorize answered an account that cannot be: ${cause.message}`, {
      cause,
    })
  }
}
