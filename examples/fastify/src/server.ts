/** The example shop on Fastify as a server of its own. What it reads from the environment is in examples/express/README.md. */
import { runServer } from '../../affiliate/src/shop/index.ts'
import { listen } from './app.ts'

await runServer(listen)
