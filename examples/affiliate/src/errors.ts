/** What can go wrong in the affiliate program, with the HTTP status that a host answers with. */
export const PROGRAM_ERRORS = {
  INVALID_INPUT: 422,
  AFFILIATE_NOT_FOUND: 404,
  LINK_NOT_FOUND: 404,
  CODE_NOT_FOUND: 404,
  CLICK_NOT_FOUND: 404,
  COMMISSION_NOT_FOUND: 404,
  PAYOUT_NOT_FOUND: 404,
  EMAIL_TAKEN: 409,
  SLUG_TAKEN: 409,
  CODE_TAKEN: 409,
  CODE_USED_UP: 409,
  ORDER_ALREADY_RECORDED: 409,
  NOTHING_TO_PAY: 409,
  /** The thing exists, but is in a state from which this step is not possible. */
  WRONG_STATE: 409,
} as const

export type ProgramErrorCode = keyof typeof PROGRAM_ERRORS

/** Every error that the program raises on purpose; its transaction is rolled back. */
export class ProgramError extends Error {
  override readonly name = 'ProgramError'
  readonly code: ProgramErrorCode
  readonly status: number

  constructor(code: ProgramErrorCode, message: string) {
    super(message)
    this.code = code
    this.status = PROGRAM_ERRORS[code]
  }
}
