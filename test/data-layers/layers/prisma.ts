import { PrismaPg } from '@prisma/adapter-pg'
import { type Prisma, PrismaClient } from '../prisma/client/client.ts'
import { type DataLayer, plainSavepoint } from './data-layer.ts'

const ISOLATION = { 'repeatable read': 'RepeatableRead', serializable: 'Serializable' } as const

export const prisma: DataLayer = {
  name: 'Prisma',
  async open(url, max = 4) {
    const client = new PrismaClient({ adapter: new PrismaPg({ connectionString: url, max }) })
    const scopeOf = (tx: Prisma.TransactionClient) =>
      plainSavepoint({ tx, execute: (text) => tx.$executeRawUnsafe(text) })
    return {
      transaction: (work, isolation) =>
        client.$transaction((tx) => work(scopeOf(tx)), {
          isolationLevel: isolation === undefined ? 'ReadCommitted' : ISOLATION[isolation],
          maxWait: 10_000,
          timeout: 10_000,
        }),
      outside: { client: () => client },
      close: () => client.$disconnect(),
    }
  },
}
