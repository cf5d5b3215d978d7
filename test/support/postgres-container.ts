/** Postgres in a container, for other versions than the embedded one: TEST_POSTGRES=container, TEST_POSTGRES_IMAGE=postgres:14. */
import { PostgreSqlContainer } from '@testcontainers/postgresql'
import { FAST_AND_UNSAFE_SETTINGS } from './embedded-postgres.ts'

export async function startContainer(): Promise<{ url: string; stop: () => Promise<void> }> {
  const settings = Object.entries(FAST_AND_UNSAFE_SETTINGS).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const container = await new PostgreSqlContainer(process.env.TEST_POSTGRES_IMAGE || 'postgres:18')
    .withCommand(['postgres', ...settings])
    .start()
  return {
    url: container.getConnectionUri(),
    stop: async () => {
      await container.stop()
    },
  }
}
