import { isError } from './errors.ts'

/** What Posthaste needs of a logger; `console` fits, and so does pino behind two lines. Fields never hold a secret. */
export interface Logger {
  debug(message: string, fields?: Record<string, unknown>): void
  info(message: string, fields?: Record<string, unknown>): void
  warn(message: string, fields?: Record<string, unknown>): void
  error(message: string, fields?: Record<string, unknown>): void
}

export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} }

/** An error as log fields: code and message only; a stack may hold what was sent. */
export function errorFields(error: unknown): Record<string, unknown> {
  if (isError(error)) {
    const code = (error as { code?: unknown }).code
    return { error: error.message, ...(code === undefined ? {} : { code }) }
  }
  return { error: String(error) }
}
