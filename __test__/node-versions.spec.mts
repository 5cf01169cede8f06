// One binary serves every Node: the smoke test runs on each supported release line, also on those not installed here.
// Their binaries come from npm on demand, into a folder that later runs find again.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { MANDATORY, ROOT, npm } from './support/tools.mjs'

const SUPPORTED = [20, 22, 24, 26]
const SMOKE = fileURLToPath(new URL('smoke.mjs', import.meta.url))
const execute = promisify(execFile)

describe('one binary for every Node', () => {
  for (const major of SUPPORTED) {
    it(`serves Node ${major}`, { timeout: 180_000 }, async (test) => {
      const node = await binaryOf(major)
      if (!node) {
        if (MANDATORY) assert.fail(`Node ${major} could not be fetched from npm`)
        return test.skip(`Node ${major} is missing: it could not be fetched from npm`)
      }
      const { stdout } = await execute(node, [SMOKE], { timeout: 60_000 })
      assert.match(stdout, new RegExp(`smoke passed on Node v${major}\\.`))
    })
  }
})

async function binaryOf(major: number): Promise<string | undefined> {
  if (process.versions.node.startsWith(`${major}.`)) return process.execPath
  const windows = process.platform === 'win32'
  const name = `node-${windows ? 'win' : process.platform}-${process.arch}`
  const folder = `${ROOT}/target/node-versions/${major}`
  const binary = `${folder}/node_modules/${name}/bin/node${windows ? '.exe' : ''}`
  if (!existsSync(binary)) {
    await npm(['install', '--prefix', folder, '--no-save', '--no-package-lock', `${name}@${major}`]).catch(() => {})
  }
  return existsSync(binary) ? binary : undefined
}
