/** For adapters of Node frameworks: between Node's messages and Request/Response. */
export { mountPathOf, pathOf } from './mount-path.ts'
export { type NodeRequest, type ReadBody, toRequest } from './to-request.ts'
export { writeResponse } from './write-response.ts'
