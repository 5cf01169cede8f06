// Every package manager installs the package and the binary of this machine from a registry, and Node loads them. The registry is on
// loopback and has nothing else, so that nothing can be fetched besides.

import assert from 'node:assert/strict'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it, type TestContext } from 'node:test'
import { fetchedPackages } from '../support/packages.mjs'
import { TRIPLE, npmCommand } from '../support/tools.mjs'
import { NAMES, PACKED, emptyRegistry, execute, into, packedAs, publish, putSmoke, temporary, type Registry } from './support.mjs'

/** Exact, so that a new release of one of them does not fail the check. */
const VERSIONS = { pnpm: '12.21.0', yarn: '1.22.22', '@yarnpkg/cli-dist': '4.18.1', bun: '1.4.5' }
const { version } = packedAs('carillon')

const skip = (!NAMES.includes(TRIPLE) && 'there is no binary for this machine') || (process.platform === 'win32' && 'package managers are tested on Linux and macOS')

describe('installing', { skip }, () => {
  let registry: Registry

  before(async () => {
    registry = await emptyRegistry()
    await publish(PACKED, into(registry))
  })

  after(() => registry.stop())

  it('with npm', async (test) => {
    const { folder, install, smoke } = prepare(test, 'npm')
    writeFileSync(join(folder, '.npmrc'), `registry=${registry.url}\n`)
    const [command, first] = npmCommand()
    await install(command, [...first, 'install', '--no-audit', '--no-fund'])
    assert.deepEqual(binaries(folder), [TRIPLE])
    await smoke()
  })

  it('with pnpm', async (test) => {
    const { folder, install, smoke } = prepare(test, 'pnpm')
    const pnpm = await manager(test, 'pnpm')
    if (pnpm === undefined) return
    writeFileSync(join(folder, '.npmrc'), `registry=${registry.url}\n`)
    await install(process.execPath, [join(pnpm, 'install.js')], pnpm)
    await install(executable(pnpm, 'pnpm'), ['install', '--store-dir', join(folder, 'store')])
    assert.deepEqual(binaries(folder, 'node_modules/.pnpm/node_modules'), [TRIPLE])
    await smoke()
  })

  it('with yarn 1', async (test) => {
    const { folder, install, smoke } = prepare(test, 'yarn')
    const yarn = await manager(test, 'yarn')
    if (yarn === undefined) return
    await install(process.execPath, [join(yarn, 'bin/yarn.js'), 'install', '--registry', registry.url, '--cache-folder', join(folder, 'cache')])
    // It does not know `libc` and brings the binaries of both.
    assert.ok(binaries(folder).includes(TRIPLE))
    await smoke()
  })

  for (const linker of ['node-modules', 'pnp', 'pnpm']) {
    it(`with yarn 4, ${linker}`, async (test) => {
      const { folder, install, smoke } = prepare(test, 'berry')
      const yarn = await manager(test, '@yarnpkg/cli-dist')
      if (yarn === undefined) return
      const settings = [
        `nodeLinker: ${linker}`,
        `npmRegistryServer: ${registry.url}`,
        'unsafeHttpWhitelist: ["127.0.0.1"]',
        'enableTelemetry: false',
        'enableGlobalCache: false',
        'enableImmutableInstalls: false',
      ]
      writeFileSync(join(folder, '.yarnrc.yml'), `${settings.join('\n')}\n`)
      const run = [join(yarn, 'bin/yarn.js')]
      await install(process.execPath, [...run, 'install'])
      if (linker === 'node-modules') assert.deepEqual(binaries(folder), [TRIPLE])
      await smoke(process.execPath, [...run, 'node'])
    })
  }

  it('with bun', async (test) => {
    const { folder, install, smoke } = prepare(test, 'bun')
    const bun = await manager(test, 'bun')
    if (bun === undefined) return
    writeFileSync(join(folder, 'bunfig.toml'), `[install]\nregistry = "${registry.url}"\ncache.dir = "${join(folder, 'cache')}"\n`)
    await install(process.execPath, [join(bun, 'install.js')], bun)
    await install(executable(bun, 'bun'), ['install'])
    assert.deepEqual(binaries(folder), [TRIPLE])
    await smoke()
  })
})

/** An application that needs the package and has nothing installed. */
function prepare(test: TestContext, purpose: string) {
  const folder = temporary(test, purpose)
  const home = join(folder, 'home')
  mkdirSync(home)
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'application', private: true, type: 'module', dependencies: { carillon: version } }))
  const { NAPI_RS_NATIVE_LIBRARY_PATH: _, NODE_OPTIONS: __, ...inherited } = process.env
  // Settings and caches of the machine's user stay out of it.
  const unset = Object.fromEntries(Object.keys(inherited).filter((name) => /^npm_/i.test(name)).map((name) => [name, undefined]))
  const env = { ...inherited, ...unset, HOME: home, XDG_CACHE_HOME: join(home, 'cache'), XDG_CONFIG_HOME: join(home, 'config'), XDG_DATA_HOME: join(home, 'data') }
  const install = (command: string, args: string[], cwd = folder) => execute(command, args, { cwd, env, timeout: 120_000 }).catch(readable)
  const smoke = async (command = process.execPath, args: string[] = []): Promise<void> => {
    const { stdout } = await execute(command, [...args, putSmoke(folder)], { cwd: folder, env, timeout: 60_000 }).catch(readable)
    assert.match(stdout, /smoke passed on Node v/)
  }
  return { folder, install, smoke }
}

/** The binaries that were installed, by their targets. */
function binaries(folder: string, modules = 'node_modules'): string[] {
  return NAMES.filter((name) => existsSync(join(folder, modules, `carillon-${name}`, `carillon.${name}.node`)))
}

/** The folder of a package manager's own package. */
async function manager(test: TestContext, name: keyof typeof VERSIONS): Promise<string | undefined> {
  const home = await fetchedPackages({ [name]: VERSIONS[name] })
  if (home === undefined) test.skip(`${name} could not be fetched from npm`)
  return home && join(home, 'node_modules', name)
}

function executable(home: string, name: string): string {
  return join(home, '..', '.bin', name)
}

function readable(failure: { message: string; stdout?: string; stderr?: string }): never {
  throw new Error(`${failure.message}\n${failure.stdout ?? ''}${failure.stderr ?? ''}`)
}
