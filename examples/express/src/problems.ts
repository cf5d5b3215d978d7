import { STATUS_CODES } from 'node:http'
import type { ErrorRequestHandler, RequestHandler, Response } from 'express'
import { ProgramError } from '../../affiliate/src/index.ts'

/** What the shop answers when something is wrong: problem details (RFC 9457) with a stable `code`. */
export interface Problem {
  status: number
  code: string
  detail: string
  errors?: { path: string; message: string }[]
}

/** Thrown by the routes themselves: bad input, no key. */
export class HttpProblem extends Error {
  readonly problem: Problem

  constructor(problem: Problem) {
    super(problem.detail)
    this.problem = problem
  }
}

function answer(response: Response, { status, code, detail, errors }: Problem): void {
  response
    .status(status)
    .type('application/problem+json')
    .send(JSON.stringify({ type: 'about:blank', title: STATUS_CODES[status], status, code, detail, errors }))
}

export const notFound: RequestHandler = (request, response) => {
  answer(response, { status: 404, code: 'NOT_FOUND', detail: `There is nothing at ${request.method} ${request.path}.` })
}

/** Errors that are meant for the caller are answered; of all others the caller learns nothing, and the log everything. */
export function answerErrors(log: (error: unknown) => void): ErrorRequestHandler {
  return (error, _request, response, next) => {
    if (response.headersSent) return next(error)
    const problem = toProblem(error)
    if (problem) return answer(response, problem)
    log(error)
    answer(response, { status: 500, code: 'INTERNAL', detail: 'Something went wrong on our side.' })
  }
}

function toProblem(error: unknown): Problem | null {
  if (error instanceof HttpProblem) return error.problem
  if (error instanceof ProgramError) return { status: error.status, code: error.code, detail: error.message }
  // A PosthasteError is none of these: an event that the catalogue refuses is the shop's mistake, not the caller's.
  // What Express itself and its body parser throw, when they throw it at the caller.
  if (error instanceof Error && 'expose' in error && error.expose === true && 'status' in error) {
    return { status: Number(error.status), code: 'BAD_REQUEST', detail: error.message }
  }
  return null
}
