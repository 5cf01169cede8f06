// What the service tells of users, subscriptions and its own health.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'

import { TestServer } from './support/server.mjs'

/** So many updates of a bill, all different. */
function publish(site: TestServer, bill: number, count: number): void {
  for (let number = 0; number < count; number += 1) {
    site.service.broadcastBillUpdate(bill, { type: 'status_change', data: { number }, timestamp: new Date() })
  }
}

describe('subscribers', () => {
  it('are listed in the order in which they came', async (test) => {
    const site = await TestServer.open(test, { threads: 2 })
    const users = ['zoe', 'ann', 'mia', 'bob', 'eve', 'cid', 'abe', 'yan']
    for (const user of users) {
      const client = await site.connect(user)
      client.send('subscribe', { bill_id: 7 })
      await client.take('subscribed')
    }
    assert.deepEqual(site.service.getBillSubscribers(7), users)
  })

  it('follow as many bills as maxSubscriptions says, in the order they chose', async (test) => {
    const site = await TestServer.open(test, { maxSubscriptions: 3 })
    const client = await site.connect('ann')
    client.send('batch_subscribe', { bill_ids: [9, 3, 7, 1] })
    const { subscribed, failed } = (await client.take('batch_subscribed'))['data']
    assert.deepEqual([subscribed, failed], [[9, 3, 7], [1]])
    client.send('subscribe', { bill_id: 1 })
    assert.equal((await client.take('error'))['message'], 'Subscription limit reached')
    assert.deepEqual(site.service.getUserSubscriptions('ann'), [9, 3, 7])
  })
})

describe('health', () => {
  it('is not spoilt by what ended connections leave behind', async (test) => {
    const site = await TestServer.open(test, { runtime: { MESSAGE_BATCH_SIZE: 1000, MESSAGE_BATCH_DELAY: 60_000 } })
    const client = await site.connect('ann')
    client.send('subscribe', { bill_id: 7 })
    while (site.service.getBillSubscribers(7).length === 0) await new Promise((resolve) => setImmediate(resolve))
    publish(site, 7, 150)
    const gone = site.event('disconnection')
    await client.close(1000)
    await gone
    const { status, warnings, stats } = site.service.getHealthStatus()
    assert.ok(stats.droppedMessages > 100, `${stats.droppedMessages} dropped`)
    assert.deepEqual({ status, warnings, rate: stats.messageSuccessRate }, { status: 'healthy', warnings: [], rate: 1 })
  })

  it('is not spoilt by the clocks of clients', async (test) => {
    const site = await TestServer.open(test)
    const client = await site.connect('ann')
    for (let count = 0; count < 5; count += 1) {
      client.sendText(JSON.stringify({ type: 'ping', timestamp: Date.now() - 59_000 }))
      await client.take('pong')
    }
    const { status, warnings, stats } = site.service.getHealthStatus()
    assert.ok(stats.averageLatency >= 59_000, `${stats.averageLatency} ms, as the client says`)
    assert.deepEqual({ status, warnings }, { status: 'healthy', warnings: [] })
  })
})
