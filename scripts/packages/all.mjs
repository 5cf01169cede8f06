// `npm run build:all` builds and packs everything that is published and can be built on Linux; `npm run build:all -- linux-x64-gnu`
// these binaries. The folders are in dist/npm, the tarballs in dist/tarballs.

import { buildClient } from '../client.mjs'
import { main } from '../run.mjs'
import { ensureDependencies } from '../setup.mjs'
import { assembleBinary, assembleClient, assembleMain, assembledBinaries } from './assemble.mjs'
import { buildBinary } from './binary.mjs'
import { pack, printSizes } from './pack.mjs'
import { packageFolder } from './places.mjs'
import { ON_LINUX, target } from './targets.mjs'

await main(async () => {
  const named = process.argv.slice(2)
  const targets = (named.length > 0 ? named : ON_LINUX).map(target)
  await ensureDependencies()
  for (const one of targets) {
    await buildBinary(one)
    await assembleBinary(one)
  }
  await buildClient()
  const names = assembledBinaries()
  const folders = [...names.map(packageFolder), assembleClient(), assembleMain(names)]
  printSizes(await pack(folders))
})
