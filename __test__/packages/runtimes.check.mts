// The installed package in every runtime that is supported.

import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { SUPPORTED, nodeBinary } from '../support/nodes.mjs'
import { fetchedPackages } from '../support/packages.mjs'
import { MANDATORY, TRIPLE } from '../support/tools.mjs'
import { NAMES, execute, packedAs, putSmoke, unpackInto } from './support.mjs'

/** What their packages on npm call the platforms that we have a binary for; the packages that hold nothing but the program. */
const PLATFORMS: Record<string, { bun: string; deno: string }> = {
  'linux-x64-gnu': { bun: 'linux-x64', deno: 'linux-x64-glibc' },
  'linux-arm64-gnu': { bun: 'linux-aarch64', deno: 'linux-arm64-glibc' },
  'darwin-x64': { bun: 'darwin-x64', deno: 'darwin-x64' },
  'darwin-arm64': { bun: 'darwin-aarch64', deno: 'darwin-arm64' },
}

describe('the installed package', { skip: !NAMES.includes(TRIPLE) && 'there is no binary for this machine' }, () => {
  let folder: string

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'carillon-runtimes-'))
    await unpackInto(folder, [packedAs('carillon'), packedAs(`carillon-${TRIPLE}`)])
    putSmoke(folder)
  })

  after(() => rmSync(folder, { recursive: true, force: true }))

  for (const major of SUPPORTED) {
    it(`works in Node ${major}`, { timeout: 180_000 }, async (test) => {
      const node = await nodeBinary(major)
      if (node === undefined) return test.skip(`Node ${major} could not be fetched from npm`)
      await smoke(node, [], `smoke passed on Node v${major}.`)
    })
  }

  it('works in Bun', { timeout: 180_000 }, async (test) => {
    const bun = await program('@oven/bun', PLATFORMS[TRIPLE]?.bun, '1.4.5', 'bin/bun')
    if (bun === undefined) return test.skip('Bun could not be fetched from npm')
    await smoke(bun, [], 'smoke passed on Node v')
  })

  it('works in Deno', { timeout: 180_000 }, async (test) => {
    const deno = await program('@deno', PLATFORMS[TRIPLE]?.deno, '2.9.6', 'deno')
    if (deno === undefined) return test.skip('Deno could not be fetched from npm')
    await smoke(deno, ['run', '--allow-all', '--no-remote', '--node-modules-dir=manual'], 'smoke passed on Node v')
  })

  async function smoke(command: string, args: string[], expected: string): Promise<void> {
    const { NAPI_RS_NATIVE_LIBRARY_PATH: _, NODE_OPTIONS: __, ...env } = process.env
    const { stdout } = await execute(command, [...args, 'smoke.mjs'], { cwd: folder, env: { ...env, DENO_DIR: join(folder, 'deno'), DENO_NO_UPDATE_CHECK: '1' }, timeout: 60_000 })
    assert.ok(stdout.includes(expected), stdout)
  }
})

/** A program from a package of npm for this platform alone. */
async function program(scope: string, platform: string | undefined, version: string, path: string): Promise<string | undefined> {
  if (platform === undefined) return undefined
  const name = scope.includes('/') ? `${scope}-${platform}` : `${scope}/${platform}`
  const home = await fetchedPackages({ [name]: version })
  const found = home && join(home, 'node_modules', name, path)
  if (MANDATORY && !(found && existsSync(found))) throw new Error(`${name} has no ${path}`)
  return found
}
