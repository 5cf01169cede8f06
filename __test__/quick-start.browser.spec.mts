// The quick start of the README in a real browser: updates appear in the page. Leaves a screenshot in target/screenshots.

import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { chromium } from 'playwright-core'
import { examples } from './support/examples.mjs'
import { BROWSER_ARGUMENTS, MANDATORY, Program, ROOT, findChromium } from './support/tools.mjs'

const executablePath = findChromium()
const skip = executablePath || MANDATORY ? false : 'Chromium is missing: install it, or name it in CHROMIUM'

describe('the quick start in a browser', { skip, timeout: 120_000 }, () => {
  it('shows updates in two tabs, without a setting', async (test) => {
    assert.ok(executablePath, 'Chromium is missing')
    const folder = mkdtempSync(join(ROOT, 'target/quick-start-'))
    test.after(() => rmSync(folder, { recursive: true, force: true }))
    mkdirSync(join(folder, 'node_modules'))
    symlinkSync(ROOT, join(folder, 'node_modules/carillon'), 'junction')
    const source = examples('README.md').find(({ heading, language }) => heading === 'Quick start' && language === 'js')?.text
    writeFileSync(join(folder, 'server.mjs'), source ?? assert.fail('there is no quick start'))
    // JWT_SECRET is not set: a reader has none yet.
    const program = await Program.start('server.mjs', { cwd: folder, env: { PORT: '0', JWT_SECRET: undefined } })
    test.after(() => program.stop())
    const profile = mkdtempSync(join(tmpdir(), 'carillon-chromium-'))
    test.after(() => rmSync(profile, { recursive: true, force: true }))
    const context = await chromium.launchPersistentContext(profile, { executablePath, args: BROWSER_ARGUMENTS, viewport: { width: 800, height: 400 } })
    test.after(() => context.close())
    const complaints: string[] = []
    context.on('weberror', (error) => complaints.push(String(error.error())))
    for (const page of [await context.newPage(), await context.newPage()]) {
      await page.goto(`http://localhost:${program.port}/`)
      await page.locator('#updates li').nth(1).waitFor({ timeout: 30_000 })
      assert.match((await page.locator('#updates li').first().textContent()) ?? '', /^\d{4}-\d\d-\d\dT.*Z passed$/)
      mkdirSync(join(ROOT, 'target/screenshots'), { recursive: true })
      await page.screenshot({ path: join(ROOT, 'target/screenshots/quick-start.png') })
    }
    assert.deepEqual(complaints, [])
    // The updates reached the second tab while the first one was open, too.
    assert.equal(await context.pages()[1]?.locator('h1').textContent(), 'Bill 42')
  })
})
