// `npm run release` publishes what lies in dist/npm, after everything that a release must fulfil. `npm run release -- --dry-run` does
// the same into a registry on loopback, with the binaries that are there. Other options go to npm, such as `--provenance`.

import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { buildClient } from '../client.mjs'
import { CommandFailed, ROOT, main } from '../run.mjs'
import { ensureDependencies } from '../setup.mjs'
import { assembleClient, assembleMain, assembledBinaries, manifest } from './assemble.mjs'
import { changesOf } from './changelog.mjs'
import { inspect } from './inspect.mjs'
import { pack, printSizes } from './pack.mjs'
import { packageFolder } from './places.mjs'
import { publish } from './publish.mjs'
import { LoopbackRegistry } from './registry.mjs'
import { NAMES, target } from './targets.mjs'
import { versions } from './versions.mjs'

await main(async () => {
  const dryRun = process.argv.includes('--dry-run')
  const options = process.argv.slice(2).filter((option) => option !== '--dry-run')
  const { version } = manifest()
  const reasons = obstacles(version)
  for (const reason of reasons) console.log(`${dryRun ? 'would be refused' : 'refused'}: ${reason}`)
  if (reasons.length > 0 && !dryRun) throw new CommandFailed(`${version} cannot be released yet`)
  await ensureDependencies()
  await buildClient()
  const names = assembledBinaries()
  if (names.length === 0) throw new CommandFailed('there is no binary in dist/npm: run "npm run build:all"')
  for (const name of names) await inspect(join(packageFolder(name), target(name).binary), target(name))
  const packed = await pack([...names.map(packageFolder), assembleClient(), assembleMain(names)])
  printSizes(packed)
  if (!dryRun) return void (await publish(packed, { registry: execFileSync('npm', ['config', 'get', 'registry'], { encoding: 'utf8' }).trim(), options }))
  const registry = await LoopbackRegistry.start()
  try {
    const published = await publish(packed, { registry: registry.url, options: [`--${registry.token}`, ...options] })
    console.log(`dry run: ${published.join(', ')} would be published as ${version}`)
  } finally {
    await registry.stop()
  }
})

/** Why this version must not be published now. */
function obstacles(version) {
  const found = []
  for (const place of versions().filter((place) => place.version !== version)) found.push(`${place.path} has version ${place.version}, not ${version}`)
  const missing = NAMES.filter((name) => !assembledBinaries().includes(name))
  if (missing.length > 0) found.push(`no binary for ${missing.join(', ')}`)
  try {
    if (changesOf(version).date === 'Unreleased') found.push(`CHANGELOG.md has no date for ${version}`)
  } catch (error) {
    found.push(error.message)
  }
  const git = (...args) => execFileSync('git', args, { cwd: ROOT, encoding: 'utf8' }).trim()
  if (git('status', '--porcelain') !== '') found.push('there are changes that are not committed')
  if (!git('tag', '--points-at', 'HEAD').split('\n').includes(`v${version}`)) found.push(`this commit has no tag v${version}`)
  return found
}
