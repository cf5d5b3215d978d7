import { type OpenTransaction, refusal, rowsOf } from './open-transaction.ts'

/** What `prisma.$transaction(async (tx) => …)` of Prisma hands out. */
export interface PrismaTransaction {
  $queryRawUnsafe(query: string, ...values: never[]): PromiseLike<unknown>
  /** The client itself has it, what its transactions hand out has not. */
  $connect?: never
}

export function openPrisma(tx: Record<string, unknown>): OpenTransaction {
  if (typeof tx.$connect === 'function') {
    throw refusal('it is the Prisma client; use what prisma.$transaction() hands to its callback')
  }
  const prisma = tx as unknown as PrismaTransaction
  return {
    async run(text, values) {
      try {
        return rowsOf(await prisma.$queryRawUnsafe(text, ...(values as readonly never[])))
      } catch (error) {
        // "Transaction API error": closed, timed out or unknown (Prisma's error reference).
        if ((error as { code?: unknown } | null)?.code === 'P2028') {
          throw refusal('its Prisma transaction has ended or timed out', error)
        }
        throw error
      }
    },
    single: true,
  }
}
