/** The public keys by which receivers verify `v1a` signatures. */
import * as z from 'zod'
import type { JsonWebKeySet } from '../signing/ed25519-keys.ts'
import type { Route } from './routes.ts'

/** So soon does a key that was added reach receivers behind caches, in seconds; the order of a rotation counts on it. */
export const JWKS_MAX_AGE_SECONDS = 300

export const jwkSetSchema = z.object({
  keys: z
    .array(
      z.object({
        kty: z.literal('OKP'),
        crv: z.literal('Ed25519'),
        x: z.string().describe('The 32 bytes of the key in base64url.'),
        kid: z.string().describe('The thumbprint of the key (RFC 7638).'),
        use: z.literal('sig'),
        alg: z.literal('EdDSA'),
      }),
    )
    .describe('Empty where the installation signs with the secrets of the endpoints alone.'),
})

export function jwksRoutes(jwks: JsonWebKeySet): Route[] {
  return [
    {
      method: 'GET',
      path: '/jwks.json',
      permission: null,
      operationId: 'getJwks',
      summary: 'The public keys of `v1a` signatures, as a JWK Set',
      description: 'Public: needs no authentication. RFC 7517 with the keys of RFC 8037.',
      tag: 'public keys',
      responses: { 200: { description: 'The keys.', schema: jwkSetSchema } },
      handle: async () => ({
        status: 200,
        body: jwks,
        headers: { 'cache-control': `public, max-age=${JWKS_MAX_AGE_SECONDS}` },
      }),
    },
  ]
}
