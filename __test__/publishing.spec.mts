// What a publish sends is what JSON.stringify writes, evaluated once, with the members the contract adds.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Client } from './support/client.mjs'
import { TestServer } from './support/server.mjs'

const AT = new Date('2026-03-01T12:00:00.000Z')
const ISO = AT.toISOString()

/** A model with members of its own. */
class Model {
  password = 'secret'
  constructor(readonly shown: object) {}
  toJSON(): object {
    return this.shown
  }
}

/** The text of the next message of this type. */
async function textOf(client: Client, type: string): Promise<string> {
  await client.take(type)
  return client.frames.find((text) => text.includes(`"type":"${type}"`)) ?? assert.fail(`no frame with ${type}`)
}

async function open(test: import('./support/server.mjs').Scope): Promise<{ site: TestServer; client: Client }> {
  const site = await TestServer.open(test, { runtime: { MESSAGE_BATCH_SIZE: 1 } })
  return { site, client: await site.follower('ann', 1) }
}

describe('toJSON', () => {
  it('speaks for a message to all', async (test) => {
    const { site, client } = await open(test)
    site.service.broadcastToAll(new Model({ type: 'announcement', data: { a: 1 }, timestamp: AT }) as never)
    assert.equal(await textOf(client, 'announcement'), `{"type":"announcement","data":{"a":1},"timestamp":"${ISO}","priority":"immediate"}`)
  })

  for (const timestamp of [AT, ISO, +AT]) {
    it(`speaks for a bill update whose time is a ${timestamp instanceof Date ? 'Date' : typeof timestamp}`, async (test) => {
      const { site, client } = await open(test)
      site.service.broadcastBillUpdate(1, new Model({ type: 'amendment', data: {}, timestamp }) as never)
      assert.equal(await textOf(client, 'bill_update'), `{"type":"bill_update","bill_id":1,"update":{"type":"amendment","data":{},"timestamp":"${ISO}"},"timestamp":"${ISO}"}`)
    })
  }

  it('speaks for a notification', async (test) => {
    const { site, client } = await open(test)
    site.service.sendUserNotification('ann', new Model({ type: 'n', title: 't', message: 'm' }) as never)
    assert.match(await textOf(client, 'notification'), /^\{"type":"notification","notification":\{"type":"n","title":"t","message":"m"\},"timestamp":"[^"]+","priority":"immediate"\}$/)
  })

  it('that gives something other than an object is a TypeError for every publish', async (test) => {
    const { site } = await open(test)
    const forms = ['text', 1, null, true, [1], undefined].map((form) => ({ toJSON: () => form }))
    for (const [index, form] of [...forms, Object.assign(new String('ab'), { type: 'a', title: 't', message: 'm' })].entries()) {
      const given = form as never
      for (const publish of [
        () => site.service.broadcastToAll(given),
        () => site.service.broadcastBillUpdate(1, given),
        () => site.service.sendUserNotification('ann', given),
      ]) {
        assert.throws(publish, { name: 'TypeError', code: 'ERR_INVALID_ARGUMENT' }, `form ${index}`)
      }
    }
  })
})

describe('getters and proxies', () => {
  it('are evaluated once', async (test) => {
    const { site, client } = await open(test)
    const reads: string[] = []
    const message = {
      get type() { reads.push('type'); return 'announcement' },
      get data() { reads.push('data'); return {} },
      get timestamp() { reads.push('timestamp'); return AT },
    }
    site.service.broadcastToAll(message)
    assert.deepEqual(reads.splice(0), ['type', 'data', 'timestamp'])
    site.service.broadcastBillUpdate(1, message)
    assert.deepEqual(reads.splice(0), ['type', 'data', 'timestamp'])
    const proxied = new Proxy({ type: 'proxied', data: {}, timestamp: AT }, { get: (target, name) => (reads.push(String(name)), Reflect.get(target, name)) })
    site.service.broadcastToAll(proxied)
    assert.deepEqual(reads, ['toJSON', 'type', 'data', 'timestamp'])
    assert.equal(await textOf(client, 'proxied'), `{"type":"proxied","data":{},"timestamp":"${ISO}","priority":"immediate"}`)
  })
})

describe('added members', () => {
  const messages: Array<[name: string, message: object, text: string]> = [
    ['behind the others', { type: 'a', data: {}, timestamp: AT }, `{"type":"a","data":{},"timestamp":"${ISO}","priority":"immediate"}`],
    ['instead of a priority given', { type: 'a', priority: { level: 'low' }, data: {}, timestamp: AT }, `{"type":"a","priority":"immediate","data":{},"timestamp":"${ISO}"}`],
    ['not instead of members of members', { type: 'a', data: { priority: 'low', timestamp: 0, type: 1 }, timestamp: AT }, `{"type":"a","data":{"priority":"low","timestamp":0,"type":1},"timestamp":"${ISO}","priority":"immediate"}`],
    ['not instead of texts that look like members', { type: 'a', data: ['"priority":"low"', ',"priority":'], timestamp: AT }, `{"type":"a","data":["\\"priority\\":\\"low\\"",",\\"priority\\":"],"timestamp":"${ISO}","priority":"immediate"}`],
    ['with a time in milliseconds made into text', { timestamp: +AT, type: 'a', data: [] }, `{"timestamp":"${ISO}","type":"a","data":[],"priority":"immediate"}`],
    ['with a time in another zone made into UTC', { type: 'a', timestamp: '2026-03-01T13:00:00+01:00' }, `{"type":"a","timestamp":"${ISO}","priority":"immediate"}`],
    ['with a day that does not exist made into one that does', { type: 'a', timestamp: new Date(Date.UTC(2026, 1, 29)) }, '{"type":"a","timestamp":"2026-03-01T00:00:00.000Z","priority":"immediate"}'],
    ['also far in the future', { type: 'a', timestamp: 8.64e15 }, '{"type":"a","timestamp":"+275760-09-13T00:00:00.000Z","priority":"immediate"}'],
  ]
  for (const [name, message, text] of messages) {
    it(`stand ${name}`, async (test) => {
      const { site, client } = await open(test)
      site.service.broadcastToAll(message as never)
      assert.equal(await textOf(client, 'a'), text)
    })
  }

  it('give a message without a time, or with null for one, the time of now', async (test) => {
    const { site, client } = await open(test)
    for (const message of [{ type: 'a', data: {} }, { type: 'b', timestamp: null, data: {} }, { type: 'c', timestamp: undefined, data: {} }]) {
      const before = Date.now()
      site.service.broadcastToAll(message as never)
      const sent = await client.take(message.type)
      const time = Date.parse(sent['timestamp'] as string)
      assert.ok(time >= before && time <= Date.now(), message.type)
      assert.equal(Object.keys(sent).filter((key) => key === 'timestamp').length, 1)
    }
  })
})

describe('a time that is none', () => {
  for (const timestamp of [new Date(NaN), NaN, Infinity, 'yesterday', '', '2026-02-30T25:00:00.000Z', 8.64e15 + 1, true, {}, [], 7n]) {
    it(`such as ${typeof timestamp} ${String(timestamp)} is a TypeError, also in a message to all`, async (test) => {
      const { site } = await open(test)
      assert.throws(() => site.service.broadcastToAll({ type: 'a', data: {}, timestamp } as never), { name: 'TypeError', code: 'ERR_INVALID_ARGUMENT', message: /message\.timestamp/ })
      assert.throws(() => site.service.broadcastBillUpdate(1, { type: 'a', data: {}, timestamp } as never), { name: 'TypeError', code: 'ERR_INVALID_ARGUMENT', message: /update\.timestamp/ })
    })
  }
})
