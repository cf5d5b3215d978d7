import { expiry } from './0006-expiry.ts'
import { partitionUpkeep } from './0006-partition-upkeep.ts'
import { storageStats } from './0006-storage-stats.ts'

/** How the logs stay in shape: partitions made, mended and removed, what waited too long ended, and what the operator is told. */
export function storageUpkeep(s: string, lockKey: string): string {
  return `${partitionUpkeep(s, lockKey)}${expiry(s)}${storageStats(s)}`
}
