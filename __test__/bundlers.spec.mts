// docs/recipes/bundling.md: every recipe builds an application, and what was built serves a client.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { promisify } from 'node:util'
import { Client } from './support/client.mjs'
import { blocks } from './support/markdown.mjs'
import { fetchedPackages } from './support/packages.mjs'
import { SECRET, tokenOf } from './support/token.mjs'
import { ADDON, Program, ROOT, TRIPLE } from './support/tools.mjs'

const execute = promisify(execFile)
const RECIPES = blocks(readFileSync(join(ROOT, 'docs/recipes/bundling.md'), 'utf8'))
const ESBUILD = 'node_modules/.bin/esbuild'
const NEXT = { next: '16.4.6', react: '19.2.0', 'react-dom': '19.2.0' }

const SERVER = `
  import { createServer } from 'node:http'
  import { WebSocketService } from 'carillon'

  const server = createServer()
  const service = new WebSocketService()
  service.initialize(server)
  server.listen(0, () => console.log('listening on', server.address()))
  process.once('SIGTERM', () => service.shutdown().then(() => server.close()))
`

describe('a bundled application', { timeout: 300_000 }, () => {
  it('is built by esbuild', async (test) => {
    const home = await fetchedPackages({ esbuild: '0.28.2' })
    if (home === undefined) return test.skip('esbuild could not be fetched from npm')
    const folder = application(test)
    const [command, ...flags] = recipe('esbuild', 'sh').split(' ')
    assert.equal(command, 'esbuild')
    await execute(join(home, ESBUILD), flags, { cwd: folder, shell: process.platform === 'win32' })
    await serves('dist/server.mjs', folder)
  })

  it('fails with esbuild where carillon is not external, as the recipe says', async (test) => {
    const home = await fetchedPackages({ esbuild: '0.28.2' })
    if (home === undefined) return test.skip('esbuild could not be fetched from npm')
    const flags = recipe('esbuild', 'sh').split(' ').slice(1).filter((flag) => !flag.startsWith('--external')).concat('--log-limit=0')
    const build = execute(join(home, ESBUILD), flags, { cwd: application(test), maxBuffer: 1 << 24, shell: process.platform === 'win32' })
    await assert.rejects(build, ({ stderr }: { stderr: string }) => /Could not resolve "carillon-[a-z0-9-]+"/.test(stderr))
  })

  it('is built by webpack', async (test) => {
    const home = await fetchedPackages({ webpack: '5.112.2' })
    if (home === undefined) return test.skip('webpack could not be fetched from npm')
    const folder = application(test)
    writeFileSync(join(folder, 'webpack.config.mjs'), recipe('webpack', 'js webpack.config.mjs'))
    writeFileSync(join(folder, 'build.cjs'), `
      const webpack = require(${JSON.stringify(join(home, 'node_modules/webpack'))})
      import('./webpack.config.mjs').then(({ default: config }) => webpack({ ...config, mode: 'production', context: __dirname }, (error, stats) => {
        if (error || stats.hasErrors()) throw error ?? new Error(stats.toString())
      }))`)
    await execute(process.execPath, ['build.cjs'], { cwd: folder })
    await serves('dist/server.cjs', folder)
  })

  it('is built by Next', async (test) => {
    const home = await fetchedPackages(NEXT)
    if (home === undefined) return test.skip('Next could not be fetched from npm')
    // Next looks for itself from the application upwards.
    const folder = mkdtempSync(join(home, 'application-'))
    test.after(() => rmSync(folder, { recursive: true, force: true }))
    withCarillon(folder)
    writeFileSync(join(folder, 'package.json'), '{ "private": true }')
    const config = recipe('Next.js', 'js next.config.mjs').replace('export default {', `export default { turbopack: { root: ${JSON.stringify(home)} },`)
    writeFileSync(join(folder, 'next.config.mjs'), config)
    mkdirSync(join(folder, 'app/state'), { recursive: true })
    writeFileSync(join(folder, 'app/layout.js'), 'export default function Layout({ children }) { return <html><body>{children}</body></html> }')
    writeFileSync(join(folder, 'app/state/route.js'), `
      import { webSocketService } from 'carillon'
      export const dynamic = 'force-dynamic'
      export const GET = () => Response.json({ state: webSocketService.state })`)
    const next = join(home, 'node_modules/next/dist/bin/next')
    const env = { ...process.env, NEXT_TELEMETRY_DISABLED: '1', NODE_ENV: 'production' as const }
    await execute(process.execPath, [next, 'build'], { cwd: folder, env, maxBuffer: 1 << 26 })
      .catch(({ stdout, stderr }: { stdout: string; stderr: string }) => assert.fail(stdout + stderr))
    writeFileSync(join(folder, 'start.cjs'), `process.argv.splice(2, 0, 'start', '-p', '0'); require(${JSON.stringify(next)})`)
    const program = await Program.start('start.cjs', { cwd: folder, env })
    test.after(() => program.stop())
    const response = await fetch(`http://127.0.0.1:${program.port}/state`)
    assert.deepEqual([response.status, await response.json()], [200, { state: 'stopped' }])
  })
})

function recipe(heading: string, info: string): string {
  const block = RECIPES.find((candidate) => candidate.heading === heading && candidate.info === info)
  assert.ok(block, `no block "${info}" under "${heading}"`)
  return block.text
}

/** A folder with a server and the package. */
function application(test: TestContext): string {
  const folder = mkdtempSync(join(ROOT, 'target/bundle-'))
  test.after(() => rmSync(folder, { recursive: true, force: true }))
  withCarillon(folder)
  writeFileSync(join(folder, 'server.mjs'), SERVER)
  return folder
}

function withCarillon(folder: string): void {
  // A copy: Next does not follow links that lead out of its root.
  const carillon = join(folder, 'node_modules/carillon')
  mkdirSync(carillon, { recursive: true })
  for (const name of ['index.js', 'platform.js', 'package.json']) copyFileSync(join(ROOT, name), join(carillon, name))
  copyFileSync(ADDON, join(carillon, `carillon.${TRIPLE}.node`))
}

async function serves(script: string, cwd: string): Promise<void> {
  const program = await Program.start(script, { cwd, env: { JWT_SECRET: SECRET } })
  try {
    const client = await Client.open(`ws://127.0.0.1:${program.port}/ws?token=${tokenOf('ann')}`)
    assert.equal((await client.take('connected'))['data'].user_id, 'ann')
    await client.close()
  } finally {
    assert.equal(await program.stop(), 0)
  }
}
