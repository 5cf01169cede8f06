// The client and its React hooks in a real browser: in StrictMode, offline and back, and bundled as applications bundle it.

import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { build } from 'esbuild'
import { chromium, type BrowserContext, type Page } from 'playwright-core'
import { Proxy } from './support/proxy.mjs'
import { Cleanup, TestServer } from './support/server.mjs'
import { tokenOf } from './support/token.mjs'
import { BROWSER_ARGUMENTS, MANDATORY, ROOT, findChromium } from './support/tools.mjs'

const executablePath = findChromium()
const skip = executablePath || MANDATORY ? false : 'Chromium is missing: install it, or name it in CHROMIUM'

/** What an application would write. `told` is for the test. */
const PAGE = `
  import { StrictMode, useState } from 'react'
  import { createRoot } from 'react-dom/client'
  import { useBill, useCarillon } from 'carillon-client/react'

  const { url, token } = window.test
  const options = { getToken: () => token, reconnectDelay: 50, pingInterval: 500, pongTimeout: 500 }

  function Bill({ client, id }) {
    const { update, state } = useBill(client, id, { onGap: ({ reason }) => window.test.gaps.push(reason) })
    return <p id={'bill-' + id}>{state}: {update ? update.data.text : 'nothing yet'}</p>
  }

  function App() {
    const { client, state } = useCarillon(url, options)
    const [isShown, setShown] = useState(true)
    return <main>
      <p id="state">{state}</p>
      <button onClick={() => setShown(!isShown)}>toggle</button>
      {isShown && <Bill client={client} id={42} />}
      <Bill client={client} id={43} />
    </main>
  }

  createRoot(document.querySelector('#root')).render(<StrictMode><App /></StrictMode>)
`

describe('carillon-client in a browser', { skip, timeout: 120_000 }, () => {
  const cleanup = new Cleanup()
  let site: TestServer
  let proxy: Proxy
  let context: BrowserContext
  let page: Page
  const complaints: string[] = []

  before(async () => {
    assert.ok(executablePath, 'Chromium is missing')
    const bundle = await build({
      stdin: { contents: PAGE, loader: 'jsx', resolveDir: join(ROOT, 'client') },
      bundle: true,
      format: 'esm',
      jsx: 'automatic',
      define: { 'process.env.NODE_ENV': '"development"' },
      write: false,
    })
    const script = bundle.outputFiles[0]!.text
    const http = createServer((_request, response) => {
      const told = JSON.stringify({ url: `ws://127.0.0.1:${proxy.port}/ws`, token: tokenOf('alice'), gaps: [] })
      response.setHeader('content-type', 'text/html; charset=utf-8')
      const escaped = script.replaceAll('</script', '<\\/script')
      response.end(`<!doctype html><div id="root"></div><script>window.test = ${told}</script><script type="module">${escaped}</script>`)
    })
    site = await TestServer.open(cleanup, {}, http)
    proxy = await Proxy.open(cleanup, () => site.port)
    const profile = mkdtempSync(join(tmpdir(), 'carillon-chromium-'))
    context = await chromium.launchPersistentContext(profile, { executablePath, args: BROWSER_ARGUMENTS })
    cleanup.after(() => rmSync(profile, { recursive: true, force: true }))
    context.setDefaultTimeout(20_000)
    context.on('weberror', (error) => complaints.push(String(error.error())))
    page = await context.newPage()
    await page.goto(`http://127.0.0.1:${site.port}/`)
  })

  after(async () => {
    await context?.close()
    await cleanup.run()
  })

  const shows = (selector: string, text: string) => page.locator(selector, { hasText: text }).waitFor()
  const publish = (bill: number, text: string) =>
    site.service.broadcastBillUpdate(bill, { type: 'new_comment', data: { text }, timestamp: new Date() })

  it('shows updates, over one connection although effects run twice', async () => {
    await shows('#state', 'open')
    await shows('#bill-42', 'subscribed: nothing yet')
    publish(42, 'first')
    await shows('#bill-42', 'subscribed: first')
    assert.equal(site.service.getConnectionCount('alice'), 1)
    assert.deepEqual(site.service.getUserSubscriptions('alice').sort(), [42, 43])
  })

  it('unsubscribes with the component', async () => {
    const left = site.event('subscription')
    await page.getByRole('button').click()
    assert.deepEqual({ ...(await left), connectionId: '' }, { connectionId: '', userId: 'alice', billId: 42, subscribed: false })
    const back = site.event('subscription')
    await page.getByRole('button').click()
    assert.equal((await back).subscribed, true)
  })

  it('is back by itself after the network was away, and tells that it may have missed something', async () => {
    const devtools = await context.newCDPSession(page)
    const conditions = { latency: 0, downloadThroughput: -1, uploadThroughput: -1 }
    await devtools.send('Network.enable')
    await devtools.send('Network.emulateNetworkConditions', { offline: true, ...conditions })
    // Chromium leaves open WebSockets alone when it is offline.
    proxy.reset()
    await shows('#state', 'waiting')
    await devtools.send('Network.emulateNetworkConditions', { offline: false, ...conditions })
    await shows('#state', 'open')
    await shows('#bill-43', 'subscribed')
    await page.waitForFunction(() => (window as unknown as { test: { gaps: string[] } }).test.gaps.includes('unsupported'))
    publish(43, 'after the cut')
    await shows('#bill-43', 'subscribed: after the cut')
  })

  it('complains about nothing', () => {
    assert.deepEqual(complaints, [])
  })
})
