// `npm run demo`: installs and builds what is missing, then runs the bill tracker until it is stopped.

import { ensureAddon, ensureDependencies } from './setup.mjs'
import { main } from './run.mjs'

await main(async () => {
  await ensureDependencies()
  await ensureAddon()
  await import('../examples/demo/server.mjs')
})
