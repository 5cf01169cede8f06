// Listeners as Node's EventEmitter has them, and what one listener can do to others, to the event loop and to the process: nothing.

import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import events from 'node:events'
import { describe, it } from 'node:test'
import { WebSocketService, type ServiceEvents } from 'carillon'
import { Child } from './support/child.mjs'
import { Log } from './support/log.mjs'
import { TestServer, options } from './support/server.mjs'
import { eventually, within } from './support/waiting.mjs'

type Subscription = Parameters<ServiceEvents['subscription']>[0]

function service(): WebSocketService {
  return new WebSocketService(options())
}

describe('a listener', () => {
  it('added by once() is called once, also for one message that subscribes to several bills', async (test) => {
    const site = await TestServer.open(test)
    const once: number[] = []
    const always: number[] = []
    site.service.once('subscription', ({ billId }) => void once.push(billId))
    site.service.on('subscription', ({ billId }) => void always.push(billId))
    const client = await site.connect('ann')
    await client.subscribe(1, 2, 3)
    await eventually(() => always.length === 3, 'three events')
    assert.deepEqual([once, always], [[1], [1, 2, 3]])
  })

  it('that removes itself, or another, is not called again for the same message', async (test) => {
    const site = await TestServer.open(test)
    const calls: string[] = []
    const victim = (): void => void calls.push('victim')
    const self = (): void => {
      calls.push('self')
      site.service.off('subscription', self).off('subscription', victim)
    }
    const last = (): void => void calls.push('last')
    site.service.on('subscription', self).on('subscription', victim).on('subscription', last)
    const client = await site.connect('ann')
    await client.subscribe(1, 2, 3)
    await eventually(() => calls.filter((call) => call === 'last').length === 3, 'three events')
    assert.deepEqual(calls, ['self', 'last', 'last', 'last'])
  })

  it('that is added by another listener hears the next event, not the one under way', async (test) => {
    const site = await TestServer.open(test)
    const heard: number[] = []
    site.service.once('subscription', () => {
      site.service.on('subscription', ({ billId }) => void heard.push(billId))
    })
    const client = await site.connect('ann')
    await client.subscribe(1, 2, 3)
    await eventually(() => heard.length === 2, 'two events')
    assert.deepEqual(heard, [2, 3])
  })

  it('is called on the service, in the order of addition, prepended ones first', async (test) => {
    const site = await TestServer.open(test)
    const calls: string[] = []
    let receiver: unknown
    site.service.on('stateChange', function (this: unknown) { receiver = this; calls.push('on') })
    site.service.addListener('stateChange', () => void calls.push('addListener'))
    site.service.prependListener('stateChange', () => void calls.push('prependListener'))
    site.service.prependOnceListener('stateChange', () => void calls.push('prependOnceListener'))
    await site.service.shutdown()
    await eventually(() => calls.length === 7, 'two changes of state')
    assert.equal(receiver, site.service)
    assert.deepEqual(calls, ['prependOnceListener', 'prependListener', 'on', 'addListener', 'prependListener', 'on', 'addListener'])
  })

  it('can be counted, named and listed', () => {
    const emitter = service()
    const one = (): void => {}
    const two = (): void => {}
    assert.deepEqual([emitter.listenerCount('error'), emitter.eventNames(), emitter.listeners('error')], [0, [], []])
    emitter.on('error', one).on('error', two).on('error', one).once('connection', two)
    assert.deepEqual([emitter.listenerCount('error'), emitter.listenerCount('error', one), emitter.listenerCount('connection')], [3, 2, 1])
    assert.deepEqual(emitter.eventNames().sort(), ['connection', 'error'])
    assert.deepEqual(emitter.listeners('error'), [one, two, one])
    assert.deepEqual(emitter.rawListeners('connection'), [two])
    assert.equal(emitter.removeListener('error', one), emitter)
    assert.deepEqual(emitter.listeners('error'), [one, two])
    assert.equal(emitter.removeAllListeners('error'), emitter)
    assert.deepEqual(emitter.eventNames(), ['connection'])
    emitter.removeAllListeners()
    assert.deepEqual(emitter.eventNames(), [])
    assert.equal(events.listenerCount(emitter, 'error'), 0)
  })

  it('is called by emit() as by the service', async (test) => {
    const log = new Log()
    const site = await TestServer.open(test, { logger: log.logger })
    const told: unknown[] = []
    const error = Object.assign(new Error('mine'), { code: 'MINE' })
    assert.equal(site.service.emit('error', error), false, 'without a listener it is not thrown')
    site.service.once('error', () => { throw new Error('a listener broke') })
    site.service.once('error', (given) => void told.push(given))
    assert.deepEqual([site.service.emit('error', error), site.service.emit('error', error)], [true, false])
    assert.deepEqual(told, [error])
    await log.take('error', /a listener broke/)
    assert.equal(site.service.setMaxListeners(3), site.service)
    assert.equal(site.service.getMaxListeners(), 0)
    events.setMaxListeners(5, site.service)
  })

  it('of an event that does not exist is a TypeError with every method', () => {
    const emitter = service()
    const methods = ['on', 'once', 'off', 'addListener', 'removeListener', 'prependListener', 'prependOnceListener', 'listenerCount', 'listeners', 'rawListeners', 'removeAllListeners', 'emit'] as const
    for (const method of methods) {
      assert.throws(() => (emitter[method] as (...args: unknown[]) => unknown)('conection', () => {}), { name: 'TypeError', code: 'ERR_INVALID_ARGUMENT', message: /event/ }, method)
    }
    assert.throws(() => emitter.off('error', 'listener' as never), { code: 'ERR_INVALID_ARGUMENT', message: /listener/ })
  })

  it('runs in the async context in which it was added', async (test) => {
    const context = new AsyncLocalStorage<string>()
    const site = await context.run('construction', () => TestServer.open(test))
    const seen: Array<string | undefined> = []
    for (const store of ['one', 'two']) context.run(store, () => site.service.on('connection', () => void seen.push(context.getStore())))
    site.service.on('connection', () => void seen.push(context.getStore()))
    await site.connect('ann')
    await eventually(() => seen.length === 3, 'three calls')
    assert.deepEqual(seen, ['one', 'two', undefined])
  })
})

describe('events.once and events.on', () => {
  it('await one event and leave no listener', async (test) => {
    const site = await TestServer.open(test)
    const told = events.once(site.service, 'connection')
    await site.connect('ann')
    const [info] = await within(told, 'a connection')
    assert.equal(info.userId, 'ann')
    assert.deepEqual(site.service.eventNames(), [])
  })

  it('end with their signal and leave no listener', async (test) => {
    const site = await TestServer.open(test)
    const leaving = new AbortController()
    const told = events.once(site.service, 'connection', { signal: leaving.signal })
    assert.deepEqual(site.service.eventNames().sort(), ['connection', 'error'])
    leaving.abort()
    await assert.rejects(told, { name: 'AbortError' })
    assert.deepEqual(site.service.eventNames(), [])
  })

  it('iterate over events and leave no listener', async (test) => {
    const site = await TestServer.open(test)
    const leaving = new AbortController()
    const bills: number[] = []
    const iterated = (async () => {
      for await (const [info] of events.on(site.service, 'subscription', { signal: leaving.signal })) {
        bills.push((info as Subscription).billId)
        if (bills.length === 3) leaving.abort()
      }
    })()
    const ended = assert.rejects(within(iterated, 'three events'), { name: 'AbortError' })
    const client = await site.connect('ann')
    await client.subscribe(1, 2, 3)
    await ended
    assert.deepEqual(bills, [1, 2, 3])
    assert.deepEqual(site.service.eventNames(), [])
  })
})

describe('a listener that fails', () => {
  it('asynchronously is logged as one that throws', async (test) => {
    const log = new Log()
    const site = await TestServer.open(test, { logger: log.logger })
    let unhandled = 0
    const count = (): void => void (unhandled += 1)
    process.on('unhandledRejection', count)
    test.after(() => process.off('unhandledRejection', count))
    site.service.on('connection', async () => { throw new Error('thrown at once') })
    site.service.on('connection', () => Promise.reject(Symbol('odd')))
    site.service.on('connection', async () => {
      await null
      throw new Error('thrown later')
    })
    await site.connect('ann')
    await log.take('error', /listener.*thrown at once/)
    await log.take('error', /listener.*thrown later/)
    await site.connect('bob')
    await log.take('error', /thrown later/)
    assert.equal(unhandled, 0)
  })

  it('asynchronously ends no process, nor does a logger that rejects', async (test) => {
    const child = new Child(test, 'rejecting')
    await child.hear('survived')
    child.tell('end')
    assert.equal((await child.exit()).code, 0)
  })

  it('by returning a lazy thenable does not have that begun', async (test) => {
    const site = await TestServer.open(test)
    let begun = 0
    site.service.on('connection', () => ({ then: () => void (begun += 1) }) as never)
    const connected = site.event('connection')
    await site.connect('ann')
    await connected
    await site.settled('ann', await site.connect('ann'))
    assert.equal(begun, 0)
  })
})

describe('many events at once', () => {
  it('are delivered in order and in slices, between which the event loop turns and hooks are called', async (test) => {
    const site = await TestServer.open(test, { lookupUser: () => true })
    const bills = Array.from({ length: 1000 }, (_, index) => index + 1)
    const client = await site.connect('ann')
    await client.subscribe(...bills)
    const heard: number[] = []
    let turns = 0
    let connectedAfter = -1
    site.service.on('subscription', ({ billId, subscribed }) => {
      if (subscribed) return
      heard.push(billId)
      // Each listener takes its time: in all 500 ms of JavaScript.
      const end = performance.now() + 0.5
      while (performance.now() < end);
    })
    const turn = (): void => {
      turns += 1
      if (heard.length < bills.length) setImmediate(turn)
    }
    // One message each, so that each event is delivered by itself.
    for (const bill of bills) client.send('unsubscribe', { bill_id: bill })
    await eventually(() => heard.length > 0, 'the first event')
    turn()
    void site.connect('bob').then(() => (connectedAfter = heard.length))
    await eventually(() => heard.length === bills.length, 'all events')
    assert.deepEqual(heard, bills)
    // Slices of 5 ms: about a hundred. A slow machine makes fewer events fit into one, never more.
    assert.ok(turns > 40, `${turns} turns of the event loop`)
    await eventually(() => connectedAfter >= 0, 'the connection of another user')
    assert.ok(connectedAfter < bills.length, 'a hook was called before the last event')
  })
})
