// The demonstration in a real browser: two people in two tabs follow a bill, one publishes, both see it; the server
// stops and starts again, and both pages are back by themselves. Leaves screenshots in target/screenshots.

import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { chromium, type BrowserContext, type Page } from 'playwright-core'
import { MANDATORY, Program, ROOT, findChromium } from './support/tools.mjs'

const SERVER = 'examples/demo/server.mjs'
const SCREENSHOTS = join(ROOT, 'target/screenshots')
const BILL = 104
const ARGUMENTS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
]
const executablePath = findChromium()
const skip = executablePath || MANDATORY ? false : 'Chromium is missing: install it, or name it in CHROMIUM'

describe('the demonstration', { skip, timeout: 120_000 }, () => {
  let program: Program
  let context: BrowserContext
  let profile: string
  let amina: Page
  let jonas: Page
  const complaints: string[] = []

  before(async () => {
    assert.ok(executablePath, 'Chromium is missing')
    mkdirSync(SCREENSHOTS, { recursive: true })
    program = await Program.start(SERVER, { env: { PORT: '0', VISITORS: '25' } })
    profile = mkdtempSync(join(tmpdir(), 'carillon-chromium-'))
    context = await chromium.launchPersistentContext(profile, {
      executablePath,
      args: ARGUMENTS,
      viewport: { width: 1440, height: 900 },
    })
    context.setDefaultTimeout(15_000)
    context.on('weberror', (error) => complaints.push(String(error.error())))
    amina = await context.newPage()
    jonas = await context.newPage()
  })

  after(async () => {
    await context?.close()
    await program?.stop()
    if (profile) rmSync(profile, { recursive: true, force: true })
  })

  it('lets two people log in, each tab on a connection of its own', async () => {
    await enter(amina, 'amina')
    await enter(jonas, 'jonas')
    await connected(amina)
    await connected(jonas)
  })

  it('brings what is published to every tab that follows', async () => {
    await follow(amina)
    await follow(jonas)
    await publish(amina, 'The committee report is out')
    await seen(amina, 'The committee report is out')
    await seen(jonas, 'The committee report is out')
  })

  it('rings for the followers when it is important', async () => {
    await publish(amina, 'The vote opens on Thursday at noon', 'voting_scheduled')
    await jonas.locator('.toast', { hasText: 'The vote opens on Thursday at noon' }).waitFor()
  })

  it('leaves those alone who do not follow', async () => {
    await jonas.locator(`[data-bill="${BILL}"] .follow[aria-pressed="true"]`).click()
    await jonas.waitForFunction(async () => document.querySelector('#following')?.textContent === 'none followed')
    await publish(amina, 'Only for those who follow')
    await seen(amina, 'Only for those who follow')
    await follow(jonas)
    await publish(amina, 'For both again')
    await seen(jonas, 'For both again')
    assert.equal(await jonas.locator('.toast', { hasText: 'Only for those who follow' }).count(), 0)
  })

  it('shows what the service says about itself', async () => {
    await amina.waitForFunction(() => Number(document.querySelector('.chart .legend b')?.textContent) > 1)
    assert.equal(await amina.locator('#health').textContent(), 'healthy')
    assert.equal(await amina.locator('#level-text').textContent(), 'Normal operation')
  })

  it('looks as it should, in light and dark, wide and narrow', async () => {
    for (const colorScheme of ['light', 'dark'] as const) {
      await amina.emulateMedia({ colorScheme })
      for (const [name, width, height] of [['wide', 1440, 900], ['middle', 1000, 760], ['narrow', 390, 844]] as const) {
        await amina.setViewportSize({ width, height })
        await amina.screenshot({ path: join(SCREENSHOTS, `demo-${name}-${colorScheme}.png`) })
        const overflow = await amina.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)
        assert.ok(overflow <= 0, `${name}: ${overflow} pixels too wide`)
      }
    }
    await amina.setViewportSize({ width: 1440, height: 900 })
  })

  it('comes back by itself when the server was restarted', async () => {
    const { port } = program
    assert.equal(await program.stop(), 0)
    await amina.locator('#banner:not([hidden])').waitFor()
    await amina.screenshot({ path: join(SCREENSHOTS, 'demo-reconnecting.png') })
    program = await Program.start(SERVER, { env: { PORT: String(port), VISITORS: '25' } })
    assert.equal(program.port, port)
    await connected(amina)
    await connected(jonas)
    await publish(amina, 'After the restart')
    await seen(amina, 'After the restart')
    await seen(jonas, 'After the restart')
  })

  it('makes nobody look into the console', () => {
    assert.deepEqual(complaints, [])
  })

  async function enter(page: Page, user: string): Promise<void> {
    await page.goto(`http://localhost:${program.port}/`)
    await page.locator(`[data-user="${user}"]`).click()
  }

  async function connected(page: Page): Promise<void> {
    await page.locator('#connection[data-state="live"]').waitFor({ timeout: 30_000 })
  }

  async function follow(page: Page): Promise<void> {
    await page.locator(`[data-bill="${BILL}"] .follow[aria-pressed="false"]`).click()
    await page.locator(`[data-bill="${BILL}"][data-followed="true"]`).waitFor()
  }

  async function publish(page: Page, text: string, type = 'new_comment'): Promise<void> {
    await page.locator('#publish-bill').selectOption(String(BILL))
    await page.locator('#publish-type').selectOption(type)
    await page.locator('#publish-text').fill(text)
    await page.locator('#publish button[type="submit"]').click()
    await page.locator('#publish-text:placeholder-shown').waitFor()
  }

  async function seen(page: Page, text: string): Promise<void> {
    await page.locator('.entry', { hasText: text }).waitFor()
  }
})
