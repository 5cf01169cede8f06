// A peer that answers pings is never cut: whatever the interval and the threshold, and whatever the process went through.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, it } from 'node:test'
import { Child } from './support/child.mjs'
import { Client } from './support/client.mjs'
import { Opcode, frame, text } from './support/raw.mjs'
import { TestServer, type Scope } from './support/server.mjs'
import { tokenOf } from './support/token.mjs'
import { within } from './support/waiting.mjs'

const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index)

describe('a peer that answers', () => {
  for (const [interval, threshold] of [[10, 10], [100, 100], [500, 500], [300, 10], [10, 60_000]] as const) {
    it(`is kept with an interval of ${interval} ms and a threshold of ${threshold} ms`, async (test) => {
      const site = await TestServer.open(test, { base: { HEARTBEAT_INTERVAL: interval, STALE_CONNECTION_THRESHOLD: threshold } })
      const client = await site.connect('ann')
      for (const _ of upTo(4)) await within(once(client.socket, 'ping'), 'a ping')
      await client.probe()
      assert.equal(site.service.getConnectionCount('ann'), 1)
    })
  }

  it('is kept while its connection is not read, because it waits for hooks', async (test) => {
    let release: Array<(preferences: unknown) => void> = []
    const load = (): Promise<unknown> => new Promise((resolve) => release.push(resolve))
    const site = await TestServer.open(test, {
      base: { HEARTBEAT_INTERVAL: 100, STALE_CONNECTION_THRESHOLD: 100 },
      lookupTimeout: 60_000,
      preferences: { load, save: () => {} },
    })
    const peer = await site.rawConnection('ann')
    await peer.write(Buffer.concat(upTo(8).map(() => text({ type: 'get_preferences' }))))
    await peer.frameOf(Opcode.ping)
    await peer.write(frame(Opcode.pong))
    // One that does not answer is cut meanwhile, at a later heartbeat than the other one's.
    const gone = site.event('disconnection')
    await site.rawConnection('mute')
    assert.deepEqual({ ...(await gone), connectionId: '' }, { connectionId: '', userId: 'mute', code: 1006, reason: '', clean: false })
    assert.equal(site.service.getConnectionCount('ann'), 1)
    for (const resolve of release.splice(0)) resolve({})
    // It is read again, and pinged again.
    await peer.frameOf(Opcode.ping)
    assert.equal(site.service.getConnectionCount('ann'), 1)
  })

  const INTERVAL = 2000
  const PEERS = 200

  for (const mode of ['plain', 'bridge', 'own']) {
    const skip = process.platform === 'win32' ? 'there are no such signals' : false
    it(`is kept when the process was stopped for more than an interval (${mode})`, { skip }, async (test) => {
      const child = new Child(test, 'beating', [mode, JSON.stringify({ HEARTBEAT_INTERVAL: INTERVAL, STALE_CONNECTION_THRESHOLD: INTERVAL })])
      const { port, pid } = (await child.hear('listening')) as unknown as { port: number; pid: number }
      const clients = await Promise.all(upTo(PEERS).map((index) => join(test, port, `user ${index}`)))
      let closed = 0
      const pings = clients.map((client) => {
        void client.closed.then(() => (closed += 1))
        let count = 0
        client.socket.on('ping', () => (count += 1))
        return () => count
      })
      // Stopped with all pings under way or just answered, none of the answers surely read.
      await within(new Promise<void>((resolve) => {
        for (const client of clients) client.socket.on('ping', () => pings.every((count) => count() > 0) && resolve())
      }), 'a ping for each')
      process.kill(pid, 'SIGSTOP')
      await new Promise((resolve) => setTimeout(resolve, 1.2 * INTERVAL))
      process.kill(pid, 'SIGCONT')
      const before = pings.map((count) => count())
      await within(new Promise<void>((resolve) => {
        const check = (): void => {
          if (closed > 0 || pings.every((count, index) => count() > (before[index] ?? 0))) resolve()
        }
        for (const client of clients) {
          client.socket.on('ping', check)
          void client.closed.then(check)
        }
      }), 'the next ping for each', 30_000)
      assert.equal(closed, 0, `${closed} of ${PEERS} were cut`)
      child.tell('count')
      assert.equal((await child.hear('count'))['count'], PEERS)
    })
  }
})

async function join(test: Scope, port: number, user: string): Promise<Client> {
  const client = await Client.open(`ws://127.0.0.1:${port}/ws?token=${encodeURIComponent(tokenOf(user))}`)
  test.after(() => client.socket.terminate())
  return client
}
