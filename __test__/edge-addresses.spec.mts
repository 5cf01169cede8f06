// Where a connection of an attached server comes from: what Node says, what proxies say, and what a Unix socket cannot say.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import type { WebSocketServiceOptions } from 'carillon'
import { EdgeSite, KINDS, isEncrypted, ours, type Kind } from './support/edge.mjs'
import { TRANSPORT, type Scope } from './support/server.mjs'
import { within } from './support/waiting.mjs'

async function addressOf(test: Scope, kind: Kind, service: WebSocketServiceOptions, forwardedFor?: string, after?: (http: Server) => void): Promise<string> {
  const site = await EdgeSite.open(test, kind, { service, ...(after ? { after } : {}) })
  const told = new Promise<string>((resolve) => void site.service.on('connection', ({ remoteAddress }) => resolve(remoteAddress)))
  const { response } = await site.requestUpgrade({ ...ours('ann'), headers: forwardedFor === undefined ? {} : { 'X-Forwarded-For': forwardedFor } })
  assert.equal(response.status, 101)
  return within(told, 'the event')
}

for (const kind of KINDS.filter((kind) => kind !== 'unix')) {
  describe(`the address of a peer (${kind})`, () => {
    it('is that of its socket', async (test) => {
      assert.equal(await addressOf(test, kind, {}, '1.1.1.1'), '127.0.0.1')
    })

    const event = isEncrypted(kind) ? 'secureConnection' : 'connection'
    it('is what a wrapper has put in its place', async (test) => {
      const redefine = (socket: Socket): void => void Object.defineProperty(socket, 'remoteAddress', { get: () => '203.0.113.7', configurable: true })
      assert.equal(await addressOf(test, kind, {}, undefined, (http) => void http.prependListener(event, redefine)), '203.0.113.7')
    })

    it('is what a wrapper has put into the class of its socket', async (test) => {
      const derive = (socket: Socket): void => {
        const prototype = Object.create(Object.getPrototypeOf(socket) as object, { remoteAddress: { get: () => '::ffff:203.0.113.8' } }) as object
        Object.setPrototypeOf(socket, prototype)
      }
      assert.equal(await addressOf(test, kind, {}, undefined, (http) => void http.prependListener(event, derive)), '203.0.113.8')
    })

    it('that a wrapper tells is believed as a proxy\'s, too', async (test) => {
      const redefine = (socket: Socket): void => void Object.defineProperty(socket, 'remoteAddress', { value: '10.0.0.9' })
      const trusting = { trustProxy: ['10.0.0.0/8'] }
      assert.equal(await addressOf(test, kind, trusting, '198.51.100.3', (http) => void http.prependListener(event, redefine)), '198.51.100.3')
    })

    it('is its socket\'s when a wrapper tells no address', async (test) => {
      const redefine = (socket: Socket): void => void Object.defineProperty(socket, 'remoteAddress', { value: 'unknown' })
      // Only a descriptor can be asked for the address.
      const expected = kind === 'plain' && TRANSPORT === 'auto' ? '127.0.0.1' : ''
      assert.equal(await addressOf(test, kind, {}, undefined, (http) => void http.prependListener(event, redefine)), expected)
    })
  })
}

describe('the address of a peer of a Unix socket', { skip: process.platform === 'win32' }, () => {
  const table: Array<[trustProxy: number | string[], forwardedFor: string | undefined, expected: string]> = [
    [0, '1.1.1.1', ''],
    [[], '1.1.1.1', ''],
    [1, undefined, ''],
    [1, '1.1.1.1', '1.1.1.1'],
    [1, '6.6.6.6, 1.1.1.1', '1.1.1.1'],
    [2, '6.6.6.6, 1.1.1.1', '6.6.6.6'],
    [['10.0.0.0/8'], '6.6.6.6, 1.1.1.1, 10.0.0.9', '1.1.1.1'],
  ]
  for (const transport of ['auto', 'bridge'] as const) {
    for (const [trustProxy, forwardedFor, expected] of table) {
      it(`is ${expected || 'empty'} with trustProxy ${JSON.stringify(trustProxy)} and ${forwardedFor ?? 'no header'} (${transport})`, async (test) => {
        assert.equal(await addressOf(test, 'unix', { trustProxy, transport }, forwardedFor), expected)
      })
    }
  }
})
