/**
 * A small affiliate program on its own tables: who may bring customers, what they earn, and when it is paid. Every
 * function is one transaction, and what happened in it is emitted inside it.
 */
export {
  type AffiliateRow,
  approveAffiliate,
  findAffiliate,
  type Registration,
  registerAffiliate,
  rejectAffiliate,
} from './affiliates.ts'
export { approveCommission, type Commission, findCommission, rejectCommission } from './commissions.ts'
export { type RecordedSale, recordConversion, type Sale } from './conversions.ts'
export { PROGRAM_ERRORS, ProgramError, type ProgramErrorCode } from './errors.ts'
export type { AffiliateEventData, AffiliateEventName } from './events.ts'
export { auditLedger, type Balance, balanceOf, type LedgerFault } from './ledger.ts'
export { type CodeRow, createCode, createLink, type LinkRow, recordClick } from './links.ts'
export { shareOf, toAmount, toCents, toRatePoints } from './money.ts'
export { createPayoutBatch, failPayout, findPayout, type Payout, type PayoutBatch, processPayout } from './payouts.ts'
export type { Emit, EmittedEvent, Program } from './program.ts'
export { setUpProgram } from './schema.ts'
