import { readFileSync } from 'node:fs'
import type { HttpOptions } from '@posthaste/core'

/** `createWebhooks({ http: throughTheProxy(process.env), … })` */
export function throughTheProxy(env: NodeJS.ProcessEnv): HttpOptions {
  return {
    proxy: {
      url: env.EGRESS_PROXY!, // http://proxy.corp.example:3128
      // Read at every connect, so a rotated password needs no restart.
      credentials: () => ({
        username: 'webhooks',
        password: readFileSync(env.EGRESS_PASSWORD_FILE!, 'utf8').trim(),
      }),
      resolve: 'proxy', // its allow-list has names, so it must be told names; whom they lead to, it decides
      noProxy: ['*.svc.corp.example'], // reached directly, and then guarded here
    },
    // The proxy's allow-list again: an endpoint that it would refuse is refused when it is created.
    allowedHosts: ['hooks.partner.example', '*.svc.corp.example'],
  }
}
