import { STATUS_CODES } from 'node:http'
import { ProgramError } from '../errors.ts'

/** What the shop answers when something is wrong: problem details (RFC 9457) with a stable `code`. */
export interface Problem {
  status: number
  code: string
  detail: string
  errors?: { path: string; message: string }[]
}

export const PROBLEM_TYPE = 'application/problem+json'

/** Thrown by the operations themselves: bad input, no key. */
export class HttpProblem extends Error {
  readonly problem: Problem

  constructor(problem: Problem) {
    super(problem.detail)
    this.problem = problem
  }
}

export function notFound(method: string, path: string): Problem {
  return { status: 404, code: 'NOT_FOUND', detail: `There is nothing at ${method} ${path}.` }
}

/** The body of the answer, as text. */
export function problemText({ status, code, detail, errors }: Problem): string {
  return JSON.stringify({ type: 'about:blank', title: STATUS_CODES[status], status, code, detail, errors })
}

/** Errors that are meant for the caller are answered; of all others the caller learns nothing, and the log everything. */
export function toProblem(error: unknown, log: (error: unknown) => void): Problem {
  if (error instanceof HttpProblem) return error.problem
  if (error instanceof ProgramError) return { status: error.status, code: error.code, detail: error.message }
  // A PosthasteError is none of these: an event that the catalogue refuses is the shop's mistake, not the caller's.
  const status = frameworkStatus(error)
  if (status !== null) return { status, code: 'BAD_REQUEST', detail: (error as Error).message }
  log(error)
  return { status: 500, code: 'INTERNAL', detail: 'Something went wrong on our side.' }
}

/** What Express, Koa, Fastify and their body parsers throw, where they throw it at the caller. */
function frameworkStatus(error: unknown): number | null {
  if (!(error instanceof Error)) return null
  const { expose, status, code, statusCode } = error as Error &
    Partial<Record<'expose' | 'status' | 'code' | 'statusCode', unknown>>
  if (expose === true && typeof status === 'number') return status
  const fastify = typeof code === 'string' && code.startsWith('FST_ERR_CTP_')
  return fastify && typeof statusCode === 'number' && statusCode < 500 ? statusCode : null
}
