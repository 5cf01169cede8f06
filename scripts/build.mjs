// `npm run build`: the addon as it is published. `npm run build:quick`: the same, sooner.

import { main } from './run.mjs'
import { build, ensureDependencies } from './setup.mjs'

await main(async () => {
  await ensureDependencies()
  await build({ release: process.argv.includes('--release') })
})
