// The options that are off by default: how much a connection may send, and how long a look-up is good for.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { TestServer } from './support/server.mjs'

describe('messageRate', () => {
  it('answers what is over it with an error, and closes a connection that continues', async (test) => {
    const site = await TestServer.open(test, { messageRate: 1, messageBurst: 5 })
    const client = await site.connect('ann')
    const closed = new Promise<[number, string]>((resolve) =>
      client.socket.once('close', (code: number, reason: Buffer) => resolve([code, reason.toString()])),
    )
    const replies: string[] = []
    client.socket.on('message', (message: Buffer) => replies.push(message.toString()))
    for (let count = 0; count < 20; count += 1) client.socket.send('{"type":"ping"}')
    assert.deepEqual(await closed, [1008, 'Rate limit exceeded'])
    assert.equal(replies.filter((reply) => reply.includes('"pong"')).length, 5)
  })

  it('leaves others alone', async (test) => {
    const site = await TestServer.open(test, { messageRate: 1000, messageBurst: 1000 })
    const client = await site.connect('ann')
    for (let count = 0; count < 500; count += 1) client.socket.send('{"type":"ping"}')
    let pongs = 0
    await new Promise<void>((resolve) =>
      client.socket.on('message', (message: Buffer) => {
        pongs += message.toString().split('"pong"').length - 1
        if (pongs === 500) resolve()
      }),
    )
    assert.equal(site.service.getConnectionCount('ann'), 1)
  })
})

describe('lookupCacheTtl', () => {
  it('spares the look-up of a user who was found', async (test) => {
    const asked: string[] = []
    const lookupUser = (user: string): boolean => asked.push(user) > 0 && user !== 'nobody'
    const site = await TestServer.open(test, { lookupUser, lookupCacheTtl: 60_000 })
    await site.connect('ann')
    await site.connect('ann')
    await site.connect('bob')
    assert.deepEqual(asked, ['ann', 'bob'])
  })

  it('is off by default', async (test) => {
    let asked = 0
    const site = await TestServer.open(test, { lookupUser: () => ++asked > 0 })
    await site.connect('ann')
    await site.connect('ann')
    assert.equal(asked, 2)
  })
})
