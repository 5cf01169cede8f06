// The tests in docs/testing.md, run by Jest and by vitest.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { examples } from './support/examples.mjs'
import { NEIGHBOURS, install } from './support/neighbours.mjs'
import { MANDATORY, ROOT } from './support/tools.mjs'

const execute = promisify(execFile)
const blocks = examples('docs/testing.md')

const RUNNERS = {
  jest: { file: 'bills.test.js', command: ['jest/bin/jest.js', '--watchman=false', '--rootDir=.'], passed: /Tests: +2 passed/ },
  vitest: { file: 'bills.test.mjs', command: ['vitest/vitest.mjs', 'run', '--root=.'], passed: /Tests +1 passed/ },
}

describe('tests of applications', { timeout: 280_000 }, () => {
  let missing: string | undefined
  before(async () => {
    missing = await install()
    if (MANDATORY) assert.equal(missing, undefined)
  })

  for (const [name, { file, command, passed }] of Object.entries(RUNNERS)) {
    it(`pass in ${name}, and fail when they should`, async (test) => {
      if (missing !== undefined) return test.skip(missing)
      const text = blocks.find(({ setup }) => setup === name)?.text ?? assert.fail(`no test for ${name}`)
      const folder = mkdtempSync(join(NEIGHBOURS, `${name}-`))
      test.after(() => rmSync(folder, { recursive: true, force: true }))
      mkdirSync(join(folder, 'node_modules'))
      symlinkSync(ROOT, join(folder, 'node_modules/carillon'), 'junction')
      writeFileSync(join(folder, 'package.json'), '{ "private": true }')
      const run = async (source: string): Promise<{ output: string; code: number }> => {
        writeFileSync(join(folder, file), source)
        const [script = '', ...args] = command
        return execute(process.execPath, [join(NEIGHBOURS, 'node_modules', script), ...args], { cwd: folder, env: { ...process.env, CI: 'true', NO_COLOR: '1' } })
          .then(({ stdout, stderr }) => ({ output: stdout + stderr, code: 0 }), ({ stdout, stderr, code }) => ({ output: stdout + stderr, code }))
      }
      const good = await run(text)
      assert.equal(good.code, 0, good.output)
      assert.match(good.output, passed)
      const bad = await run(text.replace("{ status: 'healthy' }", "{ status: 'ill' }").replace('toBe(200)', 'toBe(201)'))
      assert.notEqual(bad.code, 0, bad.output)
    })
  }
})
