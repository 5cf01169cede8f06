// An upgrade request behind others on the same connection: earlier responses are written whole, ours comes after them.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { RequestListener, ServerResponse } from 'node:http'
import { describe, it } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { EdgeTable } from './support/edge-table.mjs'
import { EdgeSite, KINDS, ours, socketsOf } from './support/edge.mjs'
import { Opcode, text, upgradeRequest, type RawPeer } from './support/raw.mjs'
import { eventually, within } from './support/waiting.mjs'

const plain = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`
const PONG = '{"type":"pong","priority":"immediate"}'
/** More than the buffers between two processes hold. */
const LARGE = 8 * 1024 * 1024

/** Responses that the test ends itself, by their path; `/now…` is answered at once. */
class Pending {
  readonly #responses = new Map<string, ServerResponse>()

  readonly handler: RequestListener = (request, response) => {
    const { url = '' } = request
    if (url.startsWith('/now')) return void response.end(url)
    if (url.startsWith('/large')) return void response.end(Buffer.alloc(LARGE, 'l'))
    this.#responses.set(url, response)
  }

  async get(path: string): Promise<ServerResponse> {
    await eventually(() => this.#responses.has(path), `the request ${path}`)
    return this.#responses.get(path) as ServerResponse
  }
}

/** The next response, by its `Content-Length`. */
async function body(peer: RawPeer): Promise<string> {
  const { status, headers } = await peer.response()
  assert.equal(status, 200)
  return (await peer.bytes(Number(headers['content-length']))).toString('latin1')
}

async function isOurs(peer: RawPeer): Promise<void> {
  assert.equal((await peer.response()).status, 101)
  while ((await peer.frameOf(Opcode.text)).payload.toString() !== PONG);
}

const ping = text({ type: 'ping' })
const table = new EdgeTable('Responses under way')
/** The title of a test: what is before an upgrade request of ours on the same connection. */
const after = (what: string): string => table.cell(what, 'an upgrade request of ours')

for (const kind of KINDS) {
  describe(`an upgrade request behind others (${kind})`, () => {
    const open = async (test: Parameters<typeof EdgeSite.open>[0]): Promise<{ site: EdgeSite; pending: Pending }> => {
      const pending = new Pending()
      return { site: await EdgeSite.open(test, kind, { handler: pending.handler }), pending }
    }
    const upgrade = (path = '/ws'): string => upgradeRequest(ours('ann', path))

    it(after('a response that is complete'), async (test) => {
      const { site } = await open(test)
      const peer = await site.send(plain('/now'))
      assert.equal(await body(peer), '/now')
      await peer.write(upgrade())
      void peer.write(ping)
      await isOurs(peer)
    })

    it(after('requests of the same packet, answered at once'), async (test) => {
      const { site } = await open(test)
      const requests = plain('/now/1') + plain('/now/2') + plain('/now/3') + upgrade()
      const peer = await site.send(Buffer.concat([Buffer.from(requests), ping]))
      for (const path of ['/now/1', '/now/2', '/now/3']) assert.equal(await body(peer), path)
      await isOurs(peer)
    })

    it(after('a response under way'), async (test) => {
      const { site, pending } = await open(test)
      const peer = await site.send(Buffer.concat([Buffer.from(plain('/slow') + upgrade()), ping]))
      const response = await pending.get('/slow')
      response.setHeader('Content-Length', 20)
      response.write('0123456789')
      assert.equal((await peer.response()).status, 200)
      assert.equal((await peer.bytes(10)).toString(), '0123456789')
      // Bytes that come meanwhile are kept, in order.
      await peer.write(text({ type: 'subscribe', data: { bill_id: 5 } }))
      for (let turns = 0; turns < 20; turns++) await turn()
      assert.equal(site.service.getStats().totalConnections, 0)
      response.end('abcdefghij')
      assert.equal((await peer.bytes(10)).toString(), 'abcdefghij')
      await isOurs(peer)
      await eventually(() => site.service.getBillSubscribers(5).length === 1, 'the subscription')
    })

    it(after('several responses under way'), async (test) => {
      const { site, pending } = await open(test)
      const peer = await site.send(Buffer.concat([Buffer.from(plain('/first') + plain('/second') + upgrade()), ping]))
      ;(await pending.get('/second')).end('second')
      ;(await pending.get('/first')).end('first')
      assert.equal(await body(peer), 'first')
      assert.equal(await body(peer), 'second')
      await isOurs(peer)
    })

    it(after('a response that Node has not written out'), async (test) => {
      const { site } = await open(test)
      const peer = await site.raw()
      peer.socket.pause()
      void peer.write(Buffer.concat([Buffer.from(plain('/large') + upgrade()), ping]))
      for (let turns = 0; turns < 50; turns++) await turn()
      assert.equal(site.service.getStats().totalConnections, 0)
      peer.socket.resume()
      assert.equal((await body(peer)).length, LARGE)
      await isOurs(peer)
    })

    it(after('a response that ends the connection'), async (test) => {
      const { site, pending } = await open(test)
      const peer = await site.send(plain('/last') + upgrade())
      ;(await pending.get('/last')).setHeader('Connection', 'close').end('the last')
      assert.match(await peer.rest(), /\r\n\r\nthe last$/)
      assert.equal(site.service.getStats().totalConnections, 0)
    })

    it(after('a peer that has gone'), { skip: !(kind === 'plain' || kind === 'bridge') && 'only TCP has a reset' }, async (test) => {
      const { site, pending } = await open(test)
      const found = socketsOf(kind, site.http)
      const peer = await site.send(plain('/slow') + upgrade())
      await pending.get('/slow')
      peer.reset()
      await eventually(() => found.every((socket) => socket.destroyed), 'the end of the socket')
      assert.equal(site.service.getStats().totalConnections, 0)
    })

    it(after('a response under way, and the request is to be refused'), async (test) => {
      const { site, pending } = await open(test)
      const peer = await site.send(plain('/slow') + upgradeRequest({ target: '/ws' }))
      ;(await pending.get('/slow')).end('slow')
      assert.equal(await body(peer), 'slow')
      assert.equal((await peer.response()).status, 401)
    })

    it(after('a response under way at which the service stops'), async (test) => {
      const { site, pending } = await open(test)
      const peer = await site.send(plain('/slow') + upgrade())
      const response = await pending.get('/slow')
      await site.service.shutdown()
      response.end('slow')
      assert.equal(await body(peer), 'slow')
      assert.equal((await peer.response()).status, 503)
      await within(peer.ended, 'the end of the connection')
    })

    it(after('a response under way, and no listener answers the request'), async (test) => {
      const pending = new Pending()
      const site = await EdgeSite.open(test, kind, { handler: pending.handler, after: (http) => void http.on('upgrade', () => {}) })
      const peer = await site.send(plain('/now') + plain('/slow') + upgrade('/neither'))
      assert.equal(await body(peer), '/now')
      const response = await pending.get('/slow')
      response.end('slow')
      await once(response, 'close')
      const ended = performance.now()
      assert.equal(await body(peer), 'slow')
      assert.match(await peer.rest(), /^HTTP\/1\.1 400 Bad Request\r\n[^]*\r\n\r\nBad Request$/)
      assert.ok(performance.now() - ended > 900)
    })
  })
}

table.complete()
