// Requests that ask for another protocol than WebSocket are not ours: RFC 9110 §7.8 lets a server ignore `Upgrade`.

import assert from 'node:assert/strict'
import { createServer, type IncomingMessage, type RequestListener, type ServerOptions } from 'node:http'
import { describe, it } from 'node:test'
import { EdgeSite, KINDS, ours, type UpgradeListener } from './support/edge.mjs'
import { Opcode, text, upgradeRequest, type RawPeer, type RequestOptions } from './support/raw.mjs'

/** Node 24.9 and 22.21 ask a callback; before them every request with an `Upgrade` header is an upgrade while there is a listener. */
const HAS_CALLBACK = 'shouldUpgradeCallback' in createServer()

/** What curl --http2, Java's HttpClient and others send. */
const h2c = (given: RequestOptions = {}): RequestOptions => ({
  target: '/page',
  ...given,
  headers: { Connection: 'Upgrade, HTTP2-Settings', Upgrade: 'h2c', 'HTTP2-Settings': 'AAMAAABkAAQAoAAAAAIAAAAA', 'Sec-WebSocket-Key': undefined, 'Sec-WebSocket-Version': undefined, ...given.headers },
})

/** Tells what it was asked. */
const echo: RequestListener = (request, response) => {
  let content = ''
  request.setEncoding('utf8').on('data', (chunk: string) => (content += chunk))
  request.on('end', () => response.end(JSON.stringify({ method: request.method, url: request.url, content, settings: request.headers['http2-settings'], cookie: request.headers.cookie })))
}

interface Echo {
  method: string
  url: string
  content: string
  settings?: string
  cookie?: string
}

async function answer(peer: RawPeer): Promise<Echo> {
  const { status, headers } = await peer.response()
  assert.equal(status, 200)
  return JSON.parse((await peer.bytes(Number(headers['content-length']))).toString()) as Echo
}

for (const kind of KINDS) {
  describe(`a request for another protocol (${kind})`, () => {
    it('gets the answer of the application, and keeps its connection', async (test) => {
      const site = await EdgeSite.open(test, kind, { handler: echo })
      const peer = await site.send(upgradeRequest(h2c({ headers: { Cookie: 'a=\xe9' } })))
      const first = await answer(peer)
      assert.deepEqual({ ...first, cookie: undefined }, { method: 'GET', url: '/page', content: '', settings: 'AAMAAABkAAQAoAAAAAIAAAAA', cookie: undefined })
      assert.ok(first.cookie?.startsWith('a='))
      for (const target of ['/again', '/ws']) {
        await peer.write(upgradeRequest(h2c({ target })))
        assert.equal((await answer(peer)).url, target, 'our path, too: it is no WebSocket')
      }
      await peer.write('GET /plain HTTP/1.1\r\nHost: localhost\r\n\r\n')
      assert.equal((await answer(peer)).url, '/plain')
      await peer.write(Buffer.concat([Buffer.from(upgradeRequest(ours('ann'))), text({ type: 'ping' })]))
      assert.equal((await peer.response()).status, 101)
      while (!(await peer.frameOf(Opcode.text)).payload.includes('"pong"'));
    })

    it('may have a body, and come in pieces', async (test) => {
      const site = await EdgeSite.open(test, kind, { handler: echo })
      const content = 'x'.repeat(100_000)
      const peer = await site.send(upgradeRequest(h2c({ method: 'POST', headers: { 'Content-Length': '100000' } })) + content.slice(0, 10))
      await peer.write(content.slice(10))
      assert.deepEqual(await answer(peer), { method: 'POST', url: '/page', content, settings: 'AAMAAABkAAQAoAAAAAIAAAAA' })
      await peer.write(upgradeRequest(h2c({ method: 'PUT', headers: { 'Transfer-Encoding': 'chunked' } })) + '3\r\nabc\r\n0\r\n\r\n')
      assert.equal((await answer(peer)).content, 'abc')
    })

    it('may be pipelined', async (test) => {
      const site = await EdgeSite.open(test, kind, { handler: echo })
      // Node itself, without any listener, drops what comes in the same packet behind a request whose Upgrade it ignores.
      const targets = HAS_CALLBACK ? ['/1'] : ['/1', '/2', '/3']
      const peer = await site.send(`GET /0 HTTP/1.1\r\nHost: localhost\r\n\r\n${targets.map((target) => upgradeRequest(h2c({ target }))).join('')}`)
      for (const url of ['/0', ...targets]) assert.equal((await answer(peer)).url, url)
      await peer.write(upgradeRequest(ours('ann')))
      assert.equal((await peer.response()).status, 101)
    })
  })
}

describe('a request for another protocol', () => {
  it('warns of no leak and closes no connection however often it comes', async (test) => {
    const warnings: Error[] = []
    const warned = (warning: Error): void => void warnings.push(warning)
    process.on('warning', warned)
    test.after(() => process.off('warning', warned))
    const site = await EdgeSite.open(test, 'plain', { handler: echo })
    const peer = await site.raw()
    for (let index = 0; index < 30; index++) {
      void peer.write(upgradeRequest(h2c({ target: `/${index}` })))
      assert.equal((await answer(peer)).url, `/${index}`)
    }
    assert.deepEqual(warnings, [])
  })

  it('is refused where it cannot be told exactly what it says', { skip: HAS_CALLBACK && 'this Node asks first' }, async (test) => {
    const site = await EdgeSite.open(test, 'plain', { handler: echo, after: (http) => (http.maxHeadersCount = 8) })
    const headers = Object.fromEntries(Array.from({ length: 10 }, (_, index) => [`X-${index}`, '1']))
    const peer = await site.send(upgradeRequest(h2c({ headers })))
    assert.match(await peer.rest(), /^HTTP\/1\.1 400 Bad Request\r\n[^]*\r\n\r\nInvalid Upgrade header$/)
  })

  for (const order of ['before', 'after'] as const) {
    it(`belongs to a listener added ${order} us, as it would without us`, async (test) => {
      const listener: UpgradeListener = (request, socket) => {
        if (request.headers.upgrade === 'other') socket.end('HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\n')
      }
      const site = await EdgeSite.open(test, 'plain', { handler: echo, [order]: (http: { on: Function }) => void http.on('upgrade', listener) })
      const { response } = await site.requestUpgrade({ target: '/ws', headers: { Upgrade: 'other' } })
      assert.equal(response.headers['upgrade'], 'other')
    })
  }

  it('for WebSocket with a body is refused, whichever way the body is sent', async (test) => {
    const site = await EdgeSite.open(test, 'plain', { handler: echo })
    for (const [headers, content] of [[{ 'Content-Length': '5' }, 'frame'], [{ 'Transfer-Encoding': 'chunked' }, '5\r\nframe\r\n0\r\n\r\n']] as const) {
      const peer = await site.send(upgradeRequest({ ...ours('ann'), headers: { ...headers } }) + content)
      assert.match(await peer.rest(), /^HTTP\/1\.1 400 Bad Request\r\n[^]*\r\n\r\nBad Request$/)
    }
    assert.equal((await site.requestUpgrade({ ...ours('ann'), headers: { 'Content-Length': '0' } })).response.status, 101)
  })

  it('that lists WebSocket among others is ours', async (test) => {
    const site = await EdgeSite.open(test, 'plain', { handler: echo })
    for (const Upgrade of ['h2c, websocket', 'WebSocket,h2c', 'other ,\tWEBSOCKET']) {
      assert.equal((await site.requestUpgrade({ ...ours('ann'), headers: { Upgrade } })).response.status, 101, Upgrade)
    }
    const { response } = await site.requestUpgrade({ ...ours('ann'), method: 'POST' })
    assert.equal(response.statusLine, 'HTTP/1.1 405 Method Not Allowed')
  })
})

describe('shouldUpgradeCallback', { skip: !HAS_CALLBACK && 'this Node has none' }, () => {
  const only = (path: string): ServerOptions => ({ shouldUpgradeCallback: (request: IncomingMessage) => request.url === path }) as ServerOptions

  it('of the application decides about everything but our path', async (test) => {
    const upgraded: string[] = []
    const listener: UpgradeListener = (request, socket) => {
      upgraded.push(request.url ?? '')
      socket.end('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n')
    }
    const site = await EdgeSite.open(test, 'plain', { handler: echo, http: only('/theirs'), after: (http) => void http.on('upgrade', listener) })
    assert.equal((await site.requestUpgrade(ours('ann'))).response.status, 101, 'ours')
    assert.equal((await site.requestUpgrade({ target: '/theirs' })).response.status, 101)
    assert.equal((await site.requestUpgrade({ target: '/other' })).response.status, 200)
    assert.equal((await site.requestUpgrade(h2c())).response.status, 200)
    assert.deepEqual(upgraded, ['/theirs'])
  })

  it('is the application\'s again after shutdown', async (test) => {
    const site = await EdgeSite.open(test, 'plain', { handler: echo, http: only('/theirs') })
    await site.service.shutdown()
    const { shouldUpgradeCallback } = site.http as unknown as { shouldUpgradeCallback: (request: { url: string }) => boolean }
    assert.equal(shouldUpgradeCallback({ url: '/theirs' }), true)
    assert.equal((await site.requestUpgrade(ours('ann'))).response.status, 200)
  })
})
