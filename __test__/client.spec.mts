// The client package against the service: over real sockets, restarts, and a network that swallows what it is given.

import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { describe, it } from 'node:test'
import { WebSocketService } from 'carillon'
import { CarillonClient, type ClientOptions, type ServerMessage, type StateInfo } from 'carillon-client'
import WebSocket from 'ws'
import { Proxy } from './support/proxy.mjs'
import { TestServer, application, closeServer, listen, options, type Scope } from './support/server.mjs'
import { tokenOf } from './support/token.mjs'
import { Mailbox } from './support/waiting.mjs'

const UPDATE = { type: 'new_comment', data: { text: 'hello' }, timestamp: new Date(0) }

function connect(test: Scope, port: number, given: ClientOptions = {}) {
  const client = new CarillonClient(`ws://127.0.0.1:${port}/ws`, {
    WebSocket: WebSocket as never,
    getToken: () => tokenOf('alice'),
    reconnectDelay: 20,
    ...given,
  })
  test.after(() => client.close())
  const states = new Mailbox<StateInfo>()
  const messages = new Mailbox<ServerMessage>()
  client.on('state', (info) => states.put(info))
  client.on('message', (message) => messages.put(message))
  const state = (wanted: string) => states.take((info) => info.state === wanted, `the state ${wanted}`)
  return { client, state, messages }
}

/** Everything a subscription is told, in order. */
function follow(client: CarillonClient, bill: number) {
  const told = new Mailbox<string>()
  client.bill<{ data: { text: string } }>(bill, {
    onState: (state) => told.put(state),
    onUpdate: ({ data }) => told.put(data.text),
    onGap: ({ reason }) => told.put(`gap ${reason}`),
  })
  return (wanted: string) => told.take((line) => line === wanted, wanted)
}

describe('carillon-client', () => {
  it('follows a bill', async (t) => {
    const site = await TestServer.open(t)
    const { client, messages } = connect(t, site.port)
    const told = follow(client, 42)
    await told('subscribed')
    assert.deepEqual(site.service.getBillSubscribers(42), ['alice'])
    site.service.broadcastBillUpdate(42, UPDATE)
    await told('hello')
    const greeting = await messages.take(({ type }) => type === 'connected', 'the greeting')
    assert.equal(greeting.type === 'connected' && greeting.data.user_id, 'alice')
  })

  for (const batching of ['envelope', 'frames'] as const) {
    it(`receives every update of a burst, batched as ${batching}`, async (t) => {
      const site = await TestServer.open(t, { batching })
      const { client } = connect(t, site.port)
      const told = follow(client, 42)
      await told('subscribed')
      for (let count = 0; count < 100; count++) site.service.broadcastBillUpdate(42, { ...UPDATE, data: { text: `${count}` } })
      for (let count = 0; count < 100; count++) await told(`${count}`)
    })
  }

  it('unsubscribes with the last subscription', async (t) => {
    const site = await TestServer.open(t)
    const { client, state } = connect(t, site.port)
    await state('open')
    const bills = [client.bill(7), client.bill(7)]
    await site.event('subscription')
    const left = site.event('subscription')
    for (const bill of bills) bill.unsubscribe()
    assert.equal((await left).subscribed, false)
    assert.deepEqual(site.service.getBillSubscribers(7), [])
  })

  it('comes back when the server was restarted, and tells that it may have missed something', async (t) => {
    const http = createServer(application)
    const first = new WebSocketService(options())
    t.after(() => closeServer(http))
    first.initialize(http)
    const port = await listen(http)
    const { client, state } = connect(t, port)
    const told = follow(client, 42)
    await told('subscribed')
    await first.shutdown()
    assert.equal((await state('waiting')).code, 1001)
    const second = new WebSocketService(options())
    t.after(() => second.shutdown())
    second.initialize(http)
    await told('subscribed')
    await told('gap unsupported')
    second.broadcastBillUpdate(42, UPDATE)
    await told('hello')
  })

  it('asks for a new token when the old one is refused', async (t) => {
    const site = await TestServer.open(t)
    const tokens = [tokenOf('alice', { expiresIn: -1 }), tokenOf('alice')]
    const { state } = connect(t, site.port, { getToken: () => tokens.shift() })
    assert.equal((await state('waiting')).code, 1006)
    await state('open')
  })

  it('can authenticate with a message', async (t) => {
    const site = await TestServer.open(t, { authTimeout: 5000 })
    const { state } = connect(t, site.port, { sendToken: 'message' })
    await state('open')
    assert.ok(site.service.isUserConnected('alice'))
  })

  it('notices a network that swallows everything, and resumes when it is back', async (t) => {
    const site = await TestServer.open(t)
    const proxy = await Proxy.open(t, () => site.port)
    const { client, state } = connect(t, proxy.port, { pingInterval: 100, pongTimeout: 200, connectTimeout: 500 })
    const told = follow(client, 42)
    await told('subscribed')
    proxy.swallow()
    assert.equal((await state('waiting')).code, 4000)
    assert.equal((await state('waiting')).reason, 'Connect timeout')
    proxy.restore()
    await told('subscribed')
    site.service.broadcastBillUpdate(42, UPDATE)
    await told('hello')
  })

  it('connects again after a reset, as often as it takes', async (t) => {
    const site = await TestServer.open(t)
    const proxy = await Proxy.open(t, () => site.port)
    const { client, state } = connect(t, proxy.port)
    const told = follow(client, 42)
    for (let round = 0; round < 10; round++) {
      await told('subscribed')
      proxy.reset()
      await state('waiting')
    }
    await told('subscribed')
    assert.equal(proxy.accepted, 11)
    assert.deepEqual(site.service.getBillSubscribers(42), ['alice'])
  })

  it('gives every request an end', async (t) => {
    const site = await TestServer.open(t)
    const { client, state } = connect(t, site.port)
    await state('open')
    const unanswered = client.request('nobody-knows-this', {}, { timeout: 1000 })
    await assert.rejects(unanswered, (error: { code: string }) => ['rejected', 'timeout'].includes(error.code))
    const open = client.request('get_preferences', undefined, { timeout: 60_000 })
    client.close()
    await assert.rejects(open, { code: 'closed' })
  })
})
