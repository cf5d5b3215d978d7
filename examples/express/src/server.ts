/** The example shop as a server of its own. What it reads from the environment is in the README. */
import { runServer } from '../../affiliate/src/shop/index.ts'
import { listen } from './app.ts'

await runServer(listen)
