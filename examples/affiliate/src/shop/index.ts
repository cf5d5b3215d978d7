/** What the shop's three applications share: everything but the framework. */
export { type ApiKey, type ApiKeys, type Caller, createApiKeys } from './api-keys.ts'
export { followLink, type ShopAnswer, type ShopCall, type ShopOperation, shopOperations } from './operations.ts'
export { HttpProblem, notFound, PROBLEM_TYPE, type Problem, problemText, toProblem } from './problems.ts'
export { runServer } from './run-server.ts'
export type { Listening, Shop } from './shop.ts'
export { createShopWebhooks, type ShopWebhooks, type ShopWebhooksOptions } from './webhooks.ts'
