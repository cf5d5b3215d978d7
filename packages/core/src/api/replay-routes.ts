/** Bulk replays. */
import { replayInputSchema, replaySchema } from '../replays/replay-schemas.ts'
import type { ReplayService } from '../replays/replay-service.ts'
import type { ApiCall, Route } from './routes.ts'

const tag = 'replays'

const idOf = (call: ApiCall) => call.params.id ?? ''

export function replayRoutes(replays: ReplayService): Route[] {
  return [
    {
      method: 'POST',
      path: '/{id}/replay',
      permission: 'replay',
      operationId: 'startReplay',
      summary: 'Resend in bulk to an endpoint',
      description:
        'To this endpoint alone, chunk by chunk, no faster than it takes it. One replay runs per endpoint at a time. Refused unless the endpoint is active.',
      tag,
      idempotent: true,
      body: {
        schema: replayInputSchema,
        required: true,
        example: { since: '2025-01-19T00:00:00Z', until: '2025-01-20T00:00:00Z', which: 'failed' },
      },
      responses: {
        202: {
          description: 'The replay, which is running.',
          schema: replaySchema,
          headers: { Location: 'The path of the replay, where its progress is.' },
        },
      },
      problems: [409, 422],
      handle: (call) =>
        call.once(async () => {
          const write = replays.prepareStart(call.account, idOf(call), call.body)
          return async (scope) => {
            const replay = await write(scope)
            return { status: 202, body: replay, headers: { location: `${call.mountPath}/replays/${replay.id}` } }
          }
        }),
    },
    {
      method: 'GET',
      path: '/replays/{id}',
      permission: 'read',
      operationId: 'getReplay',
      summary: 'Read how far a replay is',
      tag,
      responses: { 200: { description: 'The replay.', schema: replaySchema } },
      handle: async (call) => ({ status: 200, body: await replays.get(call.account, idOf(call)) }),
    },
    {
      method: 'DELETE',
      path: '/replays/{id}',
      permission: 'replay',
      operationId: 'cancelReplay',
      summary: 'Cancel a replay',
      description: 'It makes no further deliveries; those that are made are sent. One that is over stays as it is.',
      tag,
      responses: { 200: { description: 'The replay.', schema: replaySchema } },
      handle: async (call) => ({ status: 200, body: await replays.cancel(call.account, idOf(call)) }),
    },
  ]
}
