import type { affiliateEvents, EventData, Webhooks } from '@posthaste/core'
// Where your schema has its client generated.
import type { PrismaClient } from '../prisma/client/client.ts'

type Approved = EventData<typeof affiliateEvents, 'commission.approved'>

export async function approve(prisma: PrismaClient, webhooks: Webhooks, commission: Approved): Promise<void> {
  await prisma.$transaction(async (tx) => {
    const { count } = await tx.commission.updateMany({
      where: { id: commission.commission_id },
      data: { status: 'approved' },
    })
    await webhooks.emit('commission.approved', commission, { tx })
    if (count === 0) throw new Error('no such commission')
  })
}
