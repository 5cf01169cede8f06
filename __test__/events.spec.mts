// What the service tells its application: events, with listeners of any manners, and log lines without secrets.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, it } from 'node:test'
import { WebSocketService, type ServiceEvents } from 'carillon'
import { Child } from './support/child.mjs'
import { Client } from './support/client.mjs'
import { Log } from './support/log.mjs'
import { frame, Opcode } from './support/raw.mjs'
import { TestServer, options } from './support/server.mjs'
import { SECRET, tokenOf } from './support/token.mjs'

type Name = 'connection' | 'disconnection' | 'subscription' | 'stateChange'
type Told = [name: Name, info: Parameters<ServiceEvents[Name]>[0]]

/** Keeps all events in their order. */
function record(service: WebSocketService): Told[] {
  const told: Told[] = []
  for (const name of ['connection', 'disconnection', 'subscription', 'stateChange'] as const) {
    service.on(name, (info: Told[1]) => void told.push([name, info]))
  }
  return told
}

describe('events', () => {
  it('tell of a connection from its beginning to its end', async (test) => {
    const site = await TestServer.open(test)
    const told = record(site.service)
    const client = await site.connect('ann')
    const { connectionId } = (await client.take('connected'))['data']
    const who = { connectionId, userId: 'ann' }
    client.send('subscribe', { bill_id: 7 })
    client.send('batch_subscribe', { bill_ids: [8, 9] })
    client.send('unsubscribe', { bill_id: 8 })
    client.send('batch_unsubscribe', { bill_ids: [9, 'x', 10] })
    await client.take('batch_unsubscribed')
    const gone = site.event('disconnection')
    await client.close(4000, 'Heartbeat timeout')
    await gone
    assert.deepEqual(told.slice(0, 6), [
      ['connection', { ...who, remoteAddress: '127.0.0.1' }],
      ['subscription', { ...who, billId: 7, subscribed: true }],
      ['subscription', { ...who, billId: 8, subscribed: true }],
      ['subscription', { ...who, billId: 9, subscribed: true }],
      ['subscription', { ...who, billId: 8, subscribed: false }],
      ['subscription', { ...who, billId: 9, subscribed: false }],
    ])
    assert.deepEqual(told.at(-1), ['disconnection', { ...who, code: 4000, reason: 'Heartbeat timeout', clean: true }])
  })

  it('tell how a connection has ended', async (test) => {
    const site = await TestServer.open(test)
    const ends: Array<[code: number, reason: string, clean: boolean, end: (client: Client) => unknown]> = [
      [1000, 'Client disconnect', true, (client) => client.close(1000, 'Client disconnect')],
      [1005, '', true, (client) => client.close()],
      [1006, '', false, (client) => client.socket.terminate()],
      [1009, '', false, (client) => client.sendText('x'.repeat(102_401))],
    ]
    for (const [code, reason, clean, end] of ends) {
      const gone = site.event('disconnection')
      end(await site.connect('ann'))
      const info = await gone
      assert.deepEqual([info.code, info.reason, info.clean], [code, reason, clean])
    }
    const peer = await site.rawConnection('ann')
    const gone = site.event('disconnection')
    await peer.write(frame(Opcode.text, 'x', { masked: false }))
    assert.equal((await gone).code, 1002)
    await site.connect('ann')
    const last = site.event('disconnection')
    await site.service.shutdown()
    const info = await last
    assert.deepEqual([info.code, info.reason, info.clean], [1001, 'Server shutdown', true])
  })

  const forwarded: Array<[trustProxy: number | string[] | undefined, header: string | undefined, address: string]> = [
    [undefined, undefined, '127.0.0.1'],
    [undefined, '203.0.113.9', '127.0.0.1'],
    [1, '203.0.113.9', '203.0.113.9'],
    [1, '198.51.100.1, 203.0.113.9', '203.0.113.9'],
    [2, '198.51.100.1, 203.0.113.9', '198.51.100.1'],
    [['127.0.0.0/8'], '198.51.100.1, 203.0.113.9', '203.0.113.9'],
    [['127.0.0.0/8', '203.0.113.0/24'], '198.51.100.1, 203.0.113.9', '198.51.100.1'],
    [['10.0.0.0/8'], '203.0.113.9', '127.0.0.1'],
    [1, undefined, '127.0.0.1'],
  ]
  for (const [trustProxy, header, address] of forwarded) {
    it(`tell ${address} for "${header ?? ''}" with trust in ${JSON.stringify(trustProxy ?? 'nobody')}`, async (test) => {
      const site = await TestServer.open(test, trustProxy === undefined ? {} : { trustProxy })
      const connected = site.event('connection')
      await site.connect('ann', header === undefined ? {} : { headers: { 'X-Forwarded-For': header } })
      assert.equal((await connected).remoteAddress, address)
    })
  }

  it('tell nothing of handshakes that were refused', async (test) => {
    const site = await TestServer.open(test)
    const told = record(site.service)
    await site.status(undefined)
    await site.status('x')
    const connected = site.event('connection')
    await site.connect('ann')
    await connected
    assert.deepEqual(told.map(([name]) => name), ['connection'])
  })

  it('are heard by every listener, once by those who asked for once, and no more by those who left', async (test) => {
    const site = await TestServer.open(test)
    const calls: string[] = []
    const listener = (name: string) => (): void => void calls.push(name)
    const [always, alsoAlways, leaving, onceOnly] = ['always', 'also', 'leaving', 'once'].map(listener) as [() => void, () => void, () => void, () => void]
    assert.equal(site.service.on('connection', always), site.service)
    assert.equal(site.service.once('connection', onceOnly), site.service)
    assert.equal(site.service.on('connection', leaving), site.service)
    assert.equal(site.service.on('connection', alsoAlways), site.service)
    const connect = async (user: string): Promise<void> => {
      const connected = site.event('connection', user)
      await site.connect(user)
      await connected
    }
    await connect('ann')
    assert.deepEqual(calls.splice(0), ['always', 'once', 'leaving', 'also'])
    assert.equal(site.service.off('connection', leaving), site.service)
    assert.equal(site.service.off('connection', leaving), site.service)
    site.service.off('connection', () => {})
    site.service.off('disconnection', always)
    await connect('bob')
    assert.deepEqual(calls.splice(0), ['always', 'also'])
    site.service.off('connection', always)
    site.service.off('connection', alsoAlways)
    await connect('cleo')
    assert.deepEqual(calls, [])
  })

  it('are told on in spite of a listener that throws, and the throw is logged', async (test) => {
    const log = new Log()
    const site = await TestServer.open(test, { logger: log.logger })
    const users: string[] = []
    for (const thrown of [new Error('a listener broke'), Symbol('odd'), undefined, null]) {
      site.service.on('connection', () => {
        throw thrown
      })
      site.service.on('connection', ({ userId }) => void users.push(userId))
    }
    const connected = site.event('connection')
    const client = await site.connect('ann')
    await connected
    assert.deepEqual(users, ['ann', 'ann', 'ann', 'ann'])
    await log.take('error', /listener/)
    await client.subscribe(1)
    const again = site.event('connection')
    await site.connect('bob')
    await again
    assert.equal(users.length, 8)
  })

  it('may add and remove listeners while they are told', async (test) => {
    const site = await TestServer.open(test)
    const calls: string[] = []
    const second = (): void => void calls.push('second')
    site.service.once('connection', () => {
      calls.push('first')
      site.service.off('connection', second)
      site.service.on('connection', () => void calls.push('third'))
    })
    site.service.on('connection', second)
    for (const user of ['ann', 'bob']) {
      const connected = site.event('connection', user)
      await site.connect(user)
      await connected
    }
    assert.deepEqual(calls, ['first', 'third'])
  })

  it('must be known, and listeners functions', () => {
    const service = new WebSocketService(options())
    for (const method of ['on', 'once', 'off'] as const) {
      assert.throws(() => service[method]('conection' as never, (() => {}) as never), { name: 'TypeError', code: 'ERR_INVALID_ARGUMENT', message: /event/ })
    }
    for (const method of ['on', 'once'] as const) {
      assert.throws(() => service[method]('connection', 'listener' as never), { name: 'TypeError', code: 'ERR_INVALID_ARGUMENT', message: /listener/ })
    }
  })
})

describe('the logger', () => {
  it('may lack any of its functions, be a class, or throw', async (test) => {
    class Winston {
      readonly lines: string[] = []
      info(line: string): void {
        this.lines.push(line)
      }
    }
    const winston = new Winston()
    const noisy = {
      debug: () => { throw new Error('the disk is full') },
      info: () => { throw Symbol('odd') },
      warn: () => { throw undefined },
    }
    for (const logger of [{}, winston, noisy]) {
      const site = await TestServer.open(test, { logger })
      const connected = site.event('connection')
      const client = await site.connect('ann')
      await connected
      await site.status('x')
      await client.subscribe(1)
      await site.service.shutdown()
    }
    assert.ok(winston.lines.length > 0)
  })

  it('reports what happens, and never tokens, secrets or contents', async (test) => {
    const log = new Log()
    const site = await TestServer.open(test, {
      logger: log.logger,
      lookupUser: (user) => user !== 'eve',
      authTimeout: 30_000,
      // Some of the peers below leave a close frame unanswered.
      base: { SHUTDOWN_GRACE_PERIOD: 100 },
    })
    const content = 'SOMETHING-PERSONAL'
    const tokens = ['ann', 'eve'].map((user) => tokenOf(user, { claims: { note: content } })).concat(tokenOf('ann', { key: 'another key' }), `${content}.x.y`)
    for (const token of tokens) {
      await site.status(token)
      await site.requestUpgrade({ headers: { Authorization: `Bearer ${token}` } })
    }
    const client = await site.connect('ann')
    client.sendText(`{"${content}`)
    client.send(content, { [content]: content }, { messageId: content })
    client.send('auth', { token: tokens[2] })
    client.send('update_preferences', { preferences: { content } })
    site.service.broadcastBillUpdate(1, { type: 'new_comment', data: { content }, timestamp: new Date() })
    site.service.sendUserNotification('ann', { type: 'notice', title: content, message: content })
    site.service.broadcastToAll({ type: 'announcement', data: { content } })
    await site.settled('ann', client)
    await client.close(4001, content)
    const peer = await site.rawConnection('ann')
    await peer.write(frame(Opcode.text, content, { masked: false }))
    await peer.rest()
    await site.service.shutdown()
    await log.take('info', /stopped/)
    const text = JSON.stringify(log.lines)
    assert.ok(log.lines.length > 5, text)
    for (const secret of [SECRET, content, ...tokens.flatMap((token) => token.split('.').slice(1).filter((part) => part.length > 5))]) {
      assert.equal(text.includes(secret), false, `${secret} is in ${text}`)
    }
  })

  it('has a counterpart in stderr for those who ask for it', async (test) => {
    const child = new Child(test, 'ending', [], [], { CARILLON_LOG: 'debug' })
    const { port } = await child.hear('listening')
    const token = tokenOf('ann')
    const client = await Client.open(`ws://127.0.0.1:${port}/ws?token=${token}`)
    await child.hear('connected')
    await assert.rejects(Client.open(`ws://127.0.0.1:${port}/ws?token=${token}x`), /401/)
    const closed = once(client.socket, 'close')
    child.tell('shutdown')
    await closed
    const { code, stderr } = await child.exit()
    assert.equal(code, 0)
    assert.match(stderr, /service started/)
    assert.match(stderr, /service stopped/)
    assert.equal(stderr.includes(token.split('.')[2] ?? token), false)
    assert.equal(stderr.includes(SECRET), false)
  })
})
