import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { HttpOptions, ReceiverTls } from '@posthaste/core'

/** A partner with a certificate authority of his own, who asks for ours: `createWebhooks({ http: partners.http, … })`. */
export function openPartners(folder: string) {
  const settings = new Map<string, ReceiverTls>()

  /** At the start, and whenever certificates were renewed: from then on new connections are made with the new ones. */
  function reload(): void {
    for (const host of ['hooks.bank.example', 'hooks.insurer.example']) {
      const read = (name: string) => readFileSync(join(folder, host, name))
      settings.set(host, {
        ca: { only: read('ca.pem') }, // trusted for this partner, and for nobody else
        clientCertificate: { cert: read('client.pem'), key: read('client-key.pem') },
        minVersion: 'TLSv1.3',
      })
    }
  }

  reload()
  const http: HttpOptions = {
    // Asked at every send. It knows endpointId and account too, for a certificate per endpoint.
    tls: { forEndpoint: ({ hostname }) => settings.get(hostname) },
  }
  return { http, reload }
}
