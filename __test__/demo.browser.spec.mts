// The demonstration in a real browser: two people in two tabs follow a bill, one publishes, both see it; the server
// stops and starts again, and both pages are back by themselves. Leaves screenshots in target/screenshots.

import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { chromium, type BrowserContext, type Page } from 'playwright-core'
import { BROWSER_ARGUMENTS, MANDATORY, Program, ROOT, findChromium } from './support/tools.mjs'

const SERVER = 'examples/demo/server.mjs'
const SCREENSHOTS = join(ROOT, 'target/screenshots')
const BILL = 104
const executablePath = findChromium()
const skip = executablePath || MANDATORY ? false : 'Chromium is missing: install it, or name it in CHROMIUM'

describe('the demonstration', { skip, timeout: 120_000 }, () => {
  let program: Program
  let context: BrowserContext
  let profile: string
  let amina: Visitor
  let jonas: Visitor
  const complaints: string[] = []

  before(async () => {
    assert.ok(executablePath, 'Chromium is missing')
    mkdirSync(SCREENSHOTS, { recursive: true })
    program = await Program.start(SERVER, { env: { PORT: '0', VISITORS: '25' } })
    profile = mkdtempSync(join(tmpdir(), 'carillon-chromium-'))
    context = await chromium.launchPersistentContext(profile, {
      executablePath,
      args: BROWSER_ARGUMENTS,
      viewport: { width: 1440, height: 900 },
    })
    context.setDefaultTimeout(15_000)
    context.on('weberror', (error) => complaints.push(String(error.error())))
    amina = new Visitor(await context.newPage())
    jonas = new Visitor(await context.newPage())
  })

  after(async () => {
    await context?.close()
    await program?.stop()
    if (profile) rmSync(profile, { recursive: true, force: true })
  })

  it('lets two people log in, each tab on a connection of its own', async () => {
    await amina.enter(program.port, 'amina')
    await jonas.enter(program.port, 'jonas')
    await amina.received('"type":"connected"')
    await jonas.received('"type":"connected"')
  })

  it('shows a new visitor two bills that move already, and what the page is', async () => {
    const { page } = amina
    await page.locator('.follow[aria-pressed="true"]').nth(1).waitFor()
    assert.equal(await page.locator('.follow[aria-pressed="true"]').count(), 2)
    assert.equal(await page.locator('#following').textContent(), '2 followed')
    await amina.received('"type":"batch_subscribed"')
    const titles = await page.getByRole('heading', { level: 1 }).allInnerTexts()
    assert.deepEqual(titles.map((title) => title.replace(/\s+/g, ' ')), ['Carillon bill tracker'])
  })

  it('brings what is published to every tab that follows', async () => {
    await amina.follow()
    await jonas.follow()
    await amina.publish('The committee report is out')
    await amina.sees('The committee report is out')
    await jonas.sees('The committee report is out')
  })

  it('rings for the followers when it is important', async () => {
    await amina.publish('The vote opens on Thursday at noon', 'voting_scheduled')
    await jonas.page.locator('.toast', { hasText: 'The vote opens on Thursday at noon' }).waitFor()
  })

  it('leaves those alone who do not follow', async () => {
    await jonas.unfollow()
    await amina.publish('Only for those who follow')
    await amina.sees('Only for those who follow')
    await jonas.follow()
    await amina.publish('For both again')
    await jonas.sees('For both again')
    assert.equal(jonas.hasReceived('Only for those who follow'), false)
  })

  it('shows what the service says about itself', async () => {
    await amina.page.waitForFunction(() => Number(document.querySelector('.chart .legend b')?.textContent) > 1)
    assert.equal(await amina.page.locator('#health').textContent(), 'healthy')
    assert.equal(await amina.page.locator('#level-text').textContent(), 'Normal operation')
  })

  it('shows memory pressure, what it does, and that it passes', async () => {
    const { page } = amina
    await page.waitForFunction(() => (document.querySelector('.plot .line')?.getAttribute('d')?.split('L').length ?? 0) > 3)
    amina.mark()
    await page.locator('[data-pressure="0.97"]').click()
    await amina.received('Server optimization level 4 active due to memory pressure')
    await page.locator('#level[data-level="critical"]').waitFor()
    assert.equal(await page.locator('#level-text').textContent(), 'Reduced operation: critical')
    assert.equal(await page.locator('#pressure').textContent(), 'Memory pressure 97 %, by a report')
    assert.equal(await page.locator('#health').textContent(), 'unhealthy')
    // The history has the pressure a second later.
    const charted = (title: string) =>
      page.locator('.chart', { hasText: title }).locator('.legend b').first()
    await page.waitForFunction((text) => [...document.querySelectorAll('.chart')].some((chart) => chart.textContent?.includes(text)), '97 %')
    assert.ok(parseFloat((await charted('Memory of the process').textContent()) ?? '') > 20)
    await page.setViewportSize({ width: 1440, height: 1500 })
    await page.screenshot({ path: join(SCREENSHOTS, 'demo-pressure.png') })
    await page.setViewportSize({ width: 1440, height: 900 })
    await page.locator('[data-pressure="0"]').click()
    await amina.received('Server optimization level 3 active due to memory pressure')
    await page.locator('#level[data-level="normal"]').waitFor({ timeout: 60_000 })
  })

  it('looks as it should, in light and dark, wide and narrow', async () => {
    const { page } = amina
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme })
      for (const [name, width, height] of [['wide', 1440, 900], ['middle', 1000, 760], ['narrow', 390, 844], ['smallest', 360, 740]] as const) {
        await page.setViewportSize({ width, height })
        await page.screenshot({ path: join(SCREENSHOTS, `demo-${name}-${colorScheme}.png`) })
        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)
        assert.ok(overflow <= 0, `${name}: ${overflow} pixels too wide`)
        assert.deepEqual(await page.evaluate(cutOff), [], name)
        await page.locator('[data-tab="service"]').evaluate((tab: HTMLElement) => tab.click())
        assert.deepEqual(await page.evaluate(cutOff), [], `${name}, the service`)
        await page.screenshot({ path: join(SCREENSHOTS, `demo-${name}-${colorScheme}-service.png`) })
        await page.locator('[data-tab="feed"]').evaluate((tab: HTMLElement) => tab.click())
      }
    }
    await page.setViewportSize({ width: 1440, height: 900 })
  })

  it('keeps its bars and its dot where the system forces its colours', async () => {
    const { page } = amina
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme, forcedColors: 'active' })
      await page.screenshot({ path: join(SCREENSHOTS, `demo-forced-colours-${colorScheme}.png`) })
      const seen = await page.evaluate(() => {
        const style = (selector: string): CSSStyleDeclaration => getComputedStyle(document.querySelector(selector) as Element)
        const canvas = getComputedStyle(document.body).backgroundColor
        return {
          isDotFilled: style('.pill[data-state="live"] .dot').backgroundColor !== canvas,
          isLevelFilled: style('.level .on').backgroundColor !== canvas,
          isStageFilled: style('.stages .here').backgroundColor !== canvas,
          emptyStage: style('.stages i').borderTopWidth,
          bar: style('.bars li').backgroundImage.startsWith('linear-gradient'),
        }
      })
      assert.deepEqual(seen, { isDotFilled: true, isLevelFilled: true, isStageFilled: true, emptyStage: '1px', bar: true })
    }
    await page.emulateMedia({ colorScheme: 'light', forcedColors: 'none' })
  })

  it('comes back by itself when the server was restarted', async () => {
    const { port } = program
    amina.mark()
    jonas.mark()
    assert.equal(await program.stop(), 0)
    await amina.received('"type":"server_shutdown"')
    await amina.page.locator('#banner:not([hidden])').waitFor()
    await amina.page.screenshot({ path: join(SCREENSHOTS, 'demo-reconnecting.png') })
    program = await Program.start(SERVER, { env: { PORT: String(port), VISITORS: '25' } })
    assert.equal(program.port, port)
    await amina.received('"type":"batch_subscribed"')
    await jonas.received('"type":"batch_subscribed"')
    await amina.publish('After the restart')
    await amina.sees('After the restart')
    await jonas.sees('After the restart')
    assert.equal(await amina.page.locator('#banner').isHidden(), true)
  })

  it('writes nothing to the console', () => {
    assert.deepEqual(complaints, [])
  })
})

/** In the page: what of the header or a card is wider than the room it has. */
function cutOff(): string[] {
  const parts = [...document.querySelectorAll<HTMLElement>('#sitting, #connection, .me, .card, .chart, .bill, .publish')].filter((part) => part.offsetParent)
  return parts
    .filter((part) => part.scrollWidth > part.clientWidth + 1 || part.getBoundingClientRect().right > window.innerWidth)
    .map((part) => part.id || part.className)
}

/** A person in a tab, and all that the tab received over its connections. */
class Visitor {
  readonly page: Page
  readonly #frames: string[] = []
  #mark = 0
  #arrivals = new EventEmitter()

  constructor(page: Page) {
    this.page = page
    page.on('websocket', (socket) =>
      socket.on('framereceived', ({ payload }) => {
        this.#frames.push(String(payload))
        this.#arrivals.emit('frame')
      }),
    )
  }

  hasReceived(text: string): boolean {
    return this.#frames.some((frame) => frame.includes(text))
  }

  /** Resolves when a frame with this text has come, counting from the last `mark`. */
  async received(text: string): Promise<void> {
    const signal = AbortSignal.timeout(30_000)
    while (!this.#frames.slice(this.#mark).some((frame) => frame.includes(text))) await once(this.#arrivals, 'frame', { signal })
  }

  mark(): void {
    this.#mark = this.#frames.length
  }

  async enter(port: number, user: string): Promise<void> {
    await this.page.goto(`http://localhost:${port}/`)
    await this.page.locator(`[data-user="${user}"]`).click()
  }

  async follow(): Promise<void> {
    await this.#press('false')
    await this.received('"type":"subscribed"')
  }

  async unfollow(): Promise<void> {
    await this.#press('true')
    await this.received('"type":"unsubscribed"')
  }

  async publish(text: string, type = 'new_comment'): Promise<void> {
    await this.page.locator('#publish-bill').selectOption(String(BILL))
    await this.page.locator('#publish-type').selectOption(type)
    await this.page.locator('#publish-text').fill(text)
    await this.page.locator('#publish button[type="submit"]').click()
    await this.page.locator('#publish-text:placeholder-shown').waitFor()
  }

  async sees(text: string): Promise<void> {
    await this.page.locator('.entry', { hasText: text }).waitFor()
  }

  async #press(pressed: 'true' | 'false'): Promise<void> {
    this.mark()
    await this.page.locator(`[data-bill="${BILL}"] .follow[aria-pressed="${pressed}"]`).click()
  }
}
