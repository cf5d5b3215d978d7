/** What the API offers outside of this folder. */
export type { Authorization, Authorize, Permission } from './authorization.ts'
export { createHandler, type Handler, type HandlerContext, type ManagementHandler } from './handler.ts'
export { createIdempotency } from './idempotency.ts'
export type { SecurityScheme, SecuritySchemes } from './openapi.ts'
