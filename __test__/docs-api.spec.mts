// `npm run docs:api` makes a page of everything that the package exports.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import { MANDATORY, ROOT } from './support/tools.mjs'

const execute = promisify(execFile)

describe('the reference of the API', { timeout: 280_000 }, () => {
  it('is made of index.d.ts without a warning', async (test) => {
    const failure = await execute(process.execPath, [join(ROOT, 'scripts/docs-api.mjs')]).then(() => '', ({ stdout, stderr }) => `${stdout}\n${stderr}`)
    if (/npm .*install .* ended with/.test(failure) && !MANDATORY) return test.skip('TypeDoc could not be fetched from npm')
    assert.equal(failure, '')
    const page = readFileSync(join(ROOT, 'target/api/classes/WebSocketService.html'), 'utf8')
    for (const method of ['initialize', 'broadcastBillUpdate', 'getHealthStatus']) assert.ok(page.includes(`id="${method.toLowerCase()}"`), method)
    const overview = readFileSync(join(ROOT, 'target/api/index.html'), 'utf8')
    for (const name of ['WebSocketServiceOptions', 'ServiceEvents', 'BASE_CONFIG']) assert.ok(overview.includes(name), name)
  })
})
