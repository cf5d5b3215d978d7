import type { AddressInfo } from 'node:net'
import postgres from 'postgres'
import { createReceiver } from './app.ts'

const sql = postgres(process.env.DATABASE_URL!, { onnotice: () => {} })
await sql`create table if not exists bookings (commission_id int primary key, affiliate_id int, cents int)`
const app = await createReceiver(sql, process.env.WEBHOOK_SECRET!)
const server = app.listen(Number(process.env.PORT ?? 4000), () => {
  console.log(`Receiving on port ${(server.address() as AddressInfo).port}`)
  process.once('SIGTERM', () => {
    server.close(() => void sql.end())
  })
})
