// `npm run test:packages` tests what `npm run build:all` has made, `npm run test:packages -- linux-x64-musl` these binaries. With
// `--quick`, as part of `npm test`, it tests the packages around the addon that the tests use, without building one.

import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import platform from '../../platform.js'
import { ensureClient } from '../client.mjs'
import { CommandFailed, ROOT, main, run } from '../run.mjs'
import { ADDON, ensureAddon, ensureDependencies } from '../setup.mjs'
import { compileTests } from '../test-js.mjs'

const COMPILED = join(ROOT, 'target/js-test')
const FILE_TIMEOUT = 1_800_000

await main(async () => {
  const quick = process.argv.includes('--quick')
  const named = process.argv.slice(2).filter((word) => word !== '--quick')
  process.env.CARILLON_DIST ||= quick ? 'target/packages-quick' : 'dist'
  const { assembleBinary, assembleClient, assembleMain, assembledBinaries } = await import('./assemble.mjs')
  const { pack } = await import('./pack.mjs')
  const { packageFolder, PACKAGES, TARBALLS } = await import('./places.mjs')
  const { target } = await import('./targets.mjs')

  await ensureDependencies()
  if (quick) {
    await ensureAddon()
    await assembleBinary(target(platform.triple()), ADDON)
  } else {
    await compileTests()
    await run('cargo', ['fetch', '--locked'])
  }
  const names = named.length > 0 ? named : assembledBinaries()
  const missing = names.filter((name) => !assembledBinaries().includes(target(name).name))
  if (names.length === 0 || missing.length > 0) throw new CommandFailed(`no binary for ${missing.join(', ') || 'any target'}: run "npm run build:all"`)
  await ensureClient()
  const packed = await pack([...names.map(packageFolder), assembleClient(), assembleMain(names)])
  writeFileSync(join(TARBALLS, 'packed.json'), JSON.stringify(packed))
  await bundle(join(TARBALLS, 'smoke.mjs'))
  const files = readdirSync(join(COMPILED, 'packages')).filter((file) => file.endsWith('.check.mjs')).sort()
  const options = ['--test-reporter=spec', '--test-concurrency=1', `--test-timeout=${FILE_TIMEOUT}`]
  const env = { CARILLON_PACKAGES: JSON.stringify({ names, quick, packages: PACKAGES, tarballs: TARBALLS }) }
  await run(process.execPath, ['--test', ...options, ...files.map((file) => join(COMPILED, 'packages', file))], { env })
})

/** The smoke test as one file, which needs nothing beside it but the package. */
async function bundle(outfile) {
  const { build } = await import('esbuild')
  await build({
    entryPoints: [join(COMPILED, 'smoke.mjs')],
    outfile,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    external: ['carillon'],
    // What is bundled requires modules of Node.
    banner: { js: `import { createRequire as createRequireOfBundle } from 'node:module'\nconst require = createRequireOfBundle(import.meta.url)` },
    logLevel: 'warning',
  })
}
