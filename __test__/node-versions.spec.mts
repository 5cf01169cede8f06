// One binary serves every Node: the smoke test runs on each supported release line, also on those not installed here.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { SUPPORTED, nodeBinary } from './support/nodes.mjs'

const SMOKE = fileURLToPath(new URL('smoke.mjs', import.meta.url))
const execute = promisify(execFile)

describe('one binary for every Node', () => {
  for (const major of SUPPORTED) {
    it(`serves Node ${major}`, { timeout: 180_000 }, async (test) => {
      const node = await nodeBinary(major)
      if (node === undefined) return test.skip(`Node ${major} could not be fetched from npm`)
      const { stdout } = await execute(node, [SMOKE], { timeout: 60_000 })
      assert.match(stdout, new RegExp(`smoke passed on Node v${major}\\.`))
    })
  }
})
