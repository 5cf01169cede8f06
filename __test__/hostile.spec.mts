// Peers that break every rule. Each loses its own connection and nothing else: another one stays open, the process lives.

import assert from 'node:assert/strict'
import { randomBytes, randomInt } from 'node:crypto'
import { describe, it } from 'node:test'
import { deflateRawSync } from 'node:zlib'
import type { WebSocketServiceOptions } from 'carillon'
import type { Client } from './support/client.mjs'
import { Host } from './support/host.mjs'
import { Opcode, RawPeer, closeFrame, frame, text, upgradeRequest, type FrameOptions } from './support/raw.mjs'
import { TestServer, withToken, type Scope } from './support/server.mjs'
import { tokenOf } from './support/token.mjs'
import { within } from './support/waiting.mjs'

const MEGABYTE = 1024 * 1024
const DEFLATE = { 'Sec-WebSocket-Extensions': 'permessage-deflate' }
const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index)

interface Scene {
  site: TestServer
  /** Must still be there, and be served, whatever the other one does. */
  bystander: Client
  /** Both work, and there is no other connection. */
  unharmed: () => Promise<void>
}

async function open(test: Scope, given: WebSocketServiceOptions = {}): Promise<Scene> {
  const site = await TestServer.open(test, { threads: 1, ...given })
  const bystander = await site.follower('bystander', 1)
  const unharmed = async (): Promise<void> => {
    const count = bystander.received('bill_update').length
    site.service.broadcastBillUpdate(1, { type: 'amendment', data: { count }, timestamp: new Date() })
    assert.equal((await bystander.take('bill_update'))['update'].data.count, count)
    assert.deepEqual(site.service.getAllConnectedUsers(), ['bystander'])
    assert.equal(site.service.getStats().activeConnections, 1)
  }
  return { site, bystander, unharmed }
}

/** What the peer is closed with, and that the stream ends behind it. */
async function closing(peer: RawPeer): Promise<{ code: number | undefined; reason: string }> {
  const close = await peer.close()
  await within(peer.ended, 'the end of the stream')
  return close
}

describe('a violation of the protocol', () => {
  const table: Array<[name: string, bytes: () => Buffer, headers?: Record<string, string>]> = [
    ['a frame without a mask', () => frame(Opcode.text, '{"type":"ping"}', { masked: false })],
    ['an unmasked ping', () => frame(Opcode.ping, '', { masked: false })],
    ['an unmasked close frame', () => Buffer.from([0x88, 0x02, 0x03, 0xe8])],
    ['RSV1 without compression', () => frame(Opcode.text, 'x', { rsv: 4 })],
    ['RSV2', () => frame(Opcode.text, 'x', { rsv: 2 })],
    ['RSV3', () => frame(Opcode.text, 'x', { rsv: 1 })],
    ['RSV2 with compression', () => frame(Opcode.text, 'x', { rsv: 2 }), DEFLATE],
    ['RSV1 on a control frame', () => frame(Opcode.ping, 'x', { rsv: 4 }), DEFLATE],
    [
      'RSV1 on a continuation',
      () => Buffer.concat([frame(Opcode.text, 'a', { fin: false }), frame(Opcode.continuation, 'b', { rsv: 4 })]),
      DEFLATE,
    ],
    ...[3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map((opcode): [string, () => Buffer] => [`the reserved opcode ${opcode}`, () => frame(opcode)]),
    ['a ping in fragments', () => frame(Opcode.ping, 'x', { fin: false })],
    ['a close frame in fragments', () => frame(Opcode.close, '', { fin: false })],
    ['a ping of 126 bytes', () => frame(Opcode.ping, 'x'.repeat(126))],
    ['a continuation of nothing', () => frame(Opcode.continuation, 'x')],
    ['a continuation of nothing, with more to come', () => frame(Opcode.continuation, 'x', { fin: false })],
    ['a message within a message', () => Buffer.concat([frame(Opcode.text, 'a', { fin: false }), frame(Opcode.text, 'b')])],
    ['a close frame of one byte', () => frame(Opcode.close, 'x')],
    ...[0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65_535].map((code): [string, () => Buffer] => [`the close code ${code}`, () => closeFrame(code)]),
    ['a length in more bytes than it needs', () => Buffer.from([0x81, 0xfe, 0x00, 0x05, 0, 0, 0, 0, 1, 2, 3, 4, 5])],
    ['a length in far more bytes than it needs', () => Buffer.from([0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 1, 2, 3, 4, 5])],
  ]
  for (const [name, bytes, headers] of table) {
    it(`${name}: 1002`, async (test) => {
      const { site, unharmed } = await open(test)
      const peer = await site.rawConnection('ann', headers)
      // What comes behind it is not understood any more.
      await peer.write(Buffer.concat([bytes(), text({ type: 'ping' })]))
      assert.deepEqual(await closing(peer), { code: 1002, reason: '' })
      await unharmed()
    })
  }
})

describe('data that is not what it claims', () => {
  const compressed = (bytes: Uint8Array | string, options: FrameOptions = {}): Buffer => frame(Opcode.text, bytes as string, { rsv: 4, ...options })
  const table: Array<[name: string, bytes: () => Buffer, headers?: Record<string, string>]> = [
    ['text that is no UTF-8', () => frame(Opcode.text, Buffer.from([0x22, 0xff, 0x22]))],
    ['text that ends within a character', () => frame(Opcode.text, Buffer.from('€').subarray(0, 2))],
    ['a surrogate in UTF-8', () => frame(Opcode.text, Buffer.from([0xed, 0xa0, 0x80]))],
    [
      'fragments that make no UTF-8',
      () => Buffer.concat([frame(Opcode.text, Buffer.from([0xe2]), { fin: false }), frame(Opcode.continuation, Buffer.from([0x41]))]),
    ],
    ['a reason that is no UTF-8', () => frame(Opcode.close, Buffer.from([0x03, 0xe8, 0xff, 0xfe]))],
    ['compressed data that is none', () => compressed(Buffer.from([0xff, 0xff, 0xff, 0xff])), DEFLATE],
    ['compressed text that is no UTF-8', () => compressed(deflateRawSync(Buffer.from([0xff])).subarray(0, -1)), DEFLATE],
  ]
  for (const [name, bytes, headers] of table) {
    it(`${name}: 1007`, async (test) => {
      const { site, unharmed } = await open(test)
      const peer = await site.rawConnection('ann', headers)
      await peer.write(bytes())
      assert.equal((await closing(peer)).code, 1007)
      await unharmed()
    })
  }
})

describe('a message that is too large', () => {
  for (const length of [102_401, 16 * MEGABYTE, 2 ** 31, 2 ** 32, Number.MAX_SAFE_INTEGER, 2n ** 63n - 1n]) {
    it(`is refused by its header alone: ${length} bytes`, async (test) => {
      const { site, unharmed } = await open(test)
      const peer = await site.rawConnection('ann')
      await peer.write(frame(Opcode.text, '', { length }))
      assert.deepEqual(await closing(peer), { code: 1009, reason: '' })
      await unharmed()
    })
  }

  for (const length of [2n ** 63n, 2n ** 64n - 1n]) {
    it(`may not claim a negative length: ${length} bytes`, async (test) => {
      const { site, unharmed } = await open(test)
      const peer = await site.rawConnection('ann')
      await peer.write(frame(Opcode.binary, '', { length }))
      const { code } = await closing(peer)
      assert.ok(code === 1002 || code === 1009, `${code}`)
      await unharmed()
    })
  }

  it('is refused although all of it arrives: 900 KB', async (test) => {
    const { site, unharmed } = await open(test)
    const peer = await site.rawConnection('ann')
    void peer.write(frame(Opcode.text, Buffer.alloc(900_000, 'x')))
    assert.equal((await peer.close()).code, 1009)
    await unharmed()
  })

  it('is refused although all of it arrives: 16 MiB', async (test) => {
    const { site, unharmed } = await open(test)
    const peer = await site.rawConnection('ann')
    void peer.write(frame(Opcode.text, Buffer.alloc(16 * MEGABYTE, 'x')))
    assert.equal((await peer.close()).code, 1009)
    await unharmed()
  })

  it('is refused in fragments', async (test) => {
    const { site, unharmed } = await open(test)
    const peer = await site.rawConnection('ann')
    await peer.write(frame(Opcode.text, Buffer.alloc(60_000, 'x'), { fin: false }))
    await peer.write(frame(Opcode.continuation, Buffer.alloc(60_000, 'x'), { fin: false }))
    assert.deepEqual(await closing(peer), { code: 1009, reason: '' })
    await unharmed()
  })

  it('is refused when it inflates to too much', async (test) => {
    const { site, unharmed } = await open(test)
    const bomb = deflateRawSync(Buffer.alloc(64 * MEGABYTE))
    assert.ok(bomb.length < 102_400)
    const peer = await site.rawConnection('ann', DEFLATE)
    await peer.write(frame(Opcode.text, bomb, { rsv: 4 }))
    assert.deepEqual(await closing(peer), { code: 1009, reason: '' })
    await unharmed()
  })
})

describe('fragments without end', () => {
  for (const [name, payload] of [['that are empty', ''], ['of one byte', 'x']] as const) {
    it(`${name} end the connection and cost no memory`, async (test) => {
      const host = await Host.start(test)
      const before = await host.report()
      const peer = await RawPeer.connect(host.port)
      test.after(() => peer.destroy())
      await peer.write(upgradeRequest(withToken(tokenOf('ann'))))
      await peer.response()
      const fragments = Buffer.concat(upTo(10_000).map(() => frame(Opcode.continuation, payload, { fin: false })))
      const close = peer.close()
      await peer.write(frame(Opcode.text, payload, { fin: false }))
      // Far more than a message may have, and less than a peer may send after a close frame before it is reset.
      for (let count = 0; count < 10; count++) await peer.write(fragments)
      const { code } = await close
      assert.ok(code === 1008 || code === 1009, `${code}`)
      const after = await host.reportWhen(({ stats }) => stats.activeConnections === 0, 'the end of the connection')
      assert.ok(after.rss - before.rss < 16 * MEGABYTE, `${(after.rss - before.rss) / MEGABYTE} MiB`)
      await host.stop()
    })
  }
})

describe('noise', () => {
  it('in place of frames ends each connection', async (test) => {
    const { site, unharmed } = await open(test, { runtime: { MAX_CONNECTIONS_PER_USER: 1000 } })
    for (const round of upTo(200)) {
      const peer = await site.rawConnection('ann', round % 2 === 0 ? {} : DEFLATE)
      const gone = site.event('disconnection', 'ann')
      void peer.write(randomBytes(randomInt(1, 5000)))
      peer.socket.end()
      await gone
      peer.destroy()
    }
    await unharmed()
  })

  it('in place of JSON is answered with errors', async (test) => {
    const { site, bystander, unharmed } = await open(test)
    const client = await site.connect('ann')
    const alphabet = ['{', '}', '[', ']', '"', ':', ',', '"type"', '"subscribe"', '"data"', '"bill_id"', '1', '-1e999', 'null', '\\u0000', '\\ud800', ' ']
    for (const _ of upTo(500)) client.sendText(upTo(randomInt(1, 30)).map(() => alphabet[randomInt(alphabet.length)]).join(''))
    await client.probe()
    await bystander.probe()
    await client.close(1000)
    await unharmed()
  })

  it('of every kind of value is answered', async (test) => {
    const { site, unharmed } = await open(test)
    const client = await site.connect('ann')
    const values: unknown[] = [null, true, 0, -1, 1.5, 1e308, '', 'text', [], [[]], {}, { a: {} }, '__proto__', { __proto__: null, constructor: { prototype: 1 } }, 'ü'.repeat(5000)]
    for (const value of values) {
      const other = await site.connect('ann')
      // The third one would end the connection.
      for (const _ of [1, 2]) other.send('auth', { token: value }, { messageId: value, timestamp: value })
      await other.probe()
      await other.close(1000)
    }
    for (const type of ['subscribe', 'unsubscribe', 'batch_subscribe', 'batch_unsubscribe', 'update_preferences', ...values]) {
      for (const value of values) {
        client.send(type, { bill_id: value, bill_ids: [value, value], preferences: value, token: value }, { messageId: value, timestamp: value })
        client.send(type, value)
      }
      // In small portions, so that the replies to one fit where they wait.
      await client.probe()
    }
    await client.close(1000)
    await unharmed()
  })

  it('of a hundred thousand bills is bounded', async (test) => {
    const { site, unharmed } = await open(test)
    const client = await site.connect('ann')
    for (const part of upTo(20)) client.send('batch_subscribe', { bill_ids: upTo(5000).map((index) => 1 + part * 5000 + index) })
    await client.takeMany('batch_subscribed', 20)
    const count = site.service.getUserSubscriptions('ann').length
    assert.ok(count >= 1000 && count <= 100_000, `${count}`)
    await client.close(1000)
    assert.equal(site.service.getStats().totalSubscriptions, 1)
    await unharmed()
  })
})

describe('a peer that goes', () => {
  type Moment = [name: string, act: (site: TestServer, peer: RawPeer) => Promise<unknown>]
  const request = (): string => upgradeRequest(withToken(tokenOf('ann')))
  const moments: Moment[] = [
    ['before its request', async () => {}],
    ['within its request', (_, peer) => peer.write(request().slice(0, 60))],
    ['before the answer', (_, peer) => peer.write(request())],
    ['before the refusal', (_, peer) => peer.write(upgradeRequest())],
    ['right after the answer', (_, peer) => peer.write(request()).then(() => peer.response())],
    ['within a frame', (_, peer) => peer.write(request()).then(() => peer.response()).then(() => peer.write(text({ type: 'ping' }).subarray(0, 9)))],
    ['within a message', (_, peer) => peer.write(request()).then(() => peer.response()).then(() => peer.write(frame(Opcode.text, '{', { fin: false })))],
    ['after a request, not waiting for the reply', (_, peer) => peer.write(Buffer.concat([Buffer.from(request()), text({ type: 'subscribe', data: { bill_id: 2 } })]))],
    [
      'while much is sent to it',
      async (site, peer) => {
        await peer.write(request())
        await peer.response()
        for (const _ of upTo(10)) site.service.broadcastToAll({ type: 'announcement', data: { filler: 'x'.repeat(50_000) } })
      },
    ],
    ['after its close frame', (_, peer) => peer.write(request()).then(() => peer.response()).then(() => peer.write(closeFrame(1000)))],
    ['after a violation', (_, peer) => peer.write(request()).then(() => peer.response()).then(() => peer.write(frame(3)))],
  ]
  for (const [name, act] of moments) {
    for (const end of ['reset', 'destroy', 'half'] as const) {
      it(`${name}, with ${end === 'reset' ? 'a reset' : end === 'half' ? 'half a close' : 'a close'}, leaves nothing behind`, async (test) => {
        const { site, unharmed } = await open(test, { runtime: { MAX_CONNECTIONS_PER_USER: 100 } })
        // Listened to from the start: an event without a listener is not emitted.
        let hear = (): void => {}
        site.service.on('disconnection', () => hear())
        for (const _ of upTo(10)) {
          const peer = await site.raw()
          await act(site, peer)
          if (end === 'half') {
            // The other side is expected to end too, sooner or later; nothing waits for it here.
            peer.socket.end()
            if (!['before its request', 'within its request'].includes(name)) await within(peer.ended, 'the end of the other half')
          } else if (end === 'reset') peer.reset()
          else peer.destroy()
        }
        // Connections that were opening or closing are gone once all places of the user are free again.
        while (site.service.getAllConnectedUsers().length > 1) await within(new Promise<void>((resolve) => (hear = resolve)), 'a disconnection')
        await unharmed()
      })
    }
  }
})

describe('a peer that does not read', () => {
  const filler = 'x'.repeat(100_000)

  it('is closed when too much waits for it, and the application gets an event', async (test) => {
    const { site, bystander, unharmed } = await open(test, { maxBackpressure: 200_000, compression: false })
    const told = new Promise<{ userId: string; action: string; pendingBytes: number }>((resolve) => site.service.once('slowConsumer', resolve))
    const gone = site.event('disconnection', 'ann')
    const peer = await site.rawConnection('ann')
    peer.socket.pause()
    let isGone = false
    void gone.then(() => (isGone = true))
    while (!isGone) {
      site.service.broadcastToAll({ type: 'announcement', data: { filler } })
      await bystander.take('announcement')
    }
    const { userId, action, pendingBytes } = await within(told, 'the event "slowConsumer"')
    assert.deepEqual([userId, action], ['ann', 'close'])
    assert.ok(pendingBytes > 0 && pendingBytes < 10 * MEGABYTE)
    assert.equal((await gone).code, 1013)
    await unharmed()
  })

  for (const slowConsumer of ['drop-oldest', 'drop-newest'] as const) {
    it(`may be kept, at the price of messages: ${slowConsumer}`, async (test) => {
      const { site, bystander } = await open(test, { maxBackpressure: 250_000, slowConsumer, compression: false })
      const peer = await site.rawConnection('ann')
      // The greeting.
      await peer.frameOf(Opcode.text)
      peer.socket.pause()
      let published = 0
      while (site.service.getStats().droppedMessages < 20) {
        site.service.broadcastToAll({ type: 'announcement', data: { index: published++, filler } })
        await bystander.take('announcement')
      }
      // One thread serves both: what the bystander has, the other one has had its chance to get.
      const kept = published - site.service.getStats().droppedMessages
      peer.socket.resume()
      const indexes: number[] = []
      while (indexes.length < kept) {
        const message = JSON.parse((await peer.frameOf(Opcode.text)).payload.toString())
        if (message.type === 'announcement') indexes.push(message.data.index)
      }
      assert.deepEqual(indexes, [...indexes].sort((a, b) => a - b), 'in order')
      assert.equal(new Set(indexes).size, indexes.length)
      assert.equal(indexes.includes(published - 1), slowConsumer === 'drop-oldest')
      assert.equal(site.service.getConnectionCount('ann'), 1)
    })
  }

  it('cannot make the service hold its replies', async (test) => {
    const host = await Host.start(test)
    const before = await host.report()
    const peer = await RawPeer.connect(host.port)
    test.after(() => peer.destroy())
    await peer.write(upgradeRequest(withToken(tokenOf('ann'))))
    await peer.response()
    peer.socket.pause()
    const requests = Buffer.concat(upTo(200).map((index) => text({ type: 'x'.repeat(1000), messageId: index })))
    // Up to 100 MB of requests and as much of replies, unless one side stops reading.
    let isStuck = false
    for (let count = 0; count < 500 && !isStuck && !peer.socket.destroyed; count++) {
      isStuck = !peer.socket.write(requests) && peer.socket.writableLength > 8 * MEGABYTE
      await host.report()
    }
    const after = await host.report()
    assert.ok(after.rss - before.rss < 32 * MEGABYTE, `${(after.rss - before.rss) / MEGABYTE} MiB`)
    peer.reset()
    await host.reportWhen(({ stats }) => stats.activeConnections === 0, 'the end of the connection')
    await host.stop()
  })
})

describe('all of it together', () => {
  it('leaves the process as it was', async (test) => {
    const host = await Host.start(test, { runtime: { MAX_CONNECTIONS_PER_USER: 1000 } })
    const token = withToken(tokenOf('ann'))
    const bomb = frame(Opcode.text, deflateRawSync(Buffer.alloc(8 * MEGABYTE)), { rsv: 4 })
    const attacks: Array<(peer: RawPeer) => Promise<unknown>> = [
      (peer) => peer.write(frame(Opcode.text, 'x', { masked: false })),
      (peer) => peer.write(frame(Opcode.text, '', { length: 2n ** 63n - 1n })),
      (peer) => peer.write(bomb),
      (peer) => peer.write(randomBytes(10_000)),
      (peer) => peer.write(frame(Opcode.text, Buffer.alloc(100_000, '['))),
      (peer) => peer.write(frame(Opcode.text, Buffer.alloc(90_000), { fin: false })),
      (peer) => peer.write(Buffer.concat(upTo(5000).map(() => frame(Opcode.continuation, '', { fin: false })))),
      (peer) => peer.write(text({ type: 'batch_subscribe', data: { bill_ids: upTo(10_000) } })),
    ]
    const round = async (): Promise<void> => {
      await Promise.all(
        attacks.map(async (attack, index) => {
          const peer = await RawPeer.connect(host.port)
          await peer.write(upgradeRequest({ ...token, headers: DEFLATE }))
          await peer.response()
          void attack(peer)
          if (index % 3 === 0) await peer.write(closeFrame(1000))
          peer.socket.end()
          await within(peer.ended, 'the end of a connection')
          peer.destroy()
        }),
      )
    }
    for (const _ of upTo(30)) await round()
    const quiet = ({ stats }: { stats: { activeConnections: number } }): boolean => stats.activeConnections === 0
    const settled = await host.reportWhen(quiet, 'the end of all connections')
    for (const _ of upTo(100)) await round()
    const after = await host.reportWhen((report) => quiet(report) && report.descriptors <= settled.descriptors, 'the end of all connections')
    assert.equal(after.stats.totalSubscriptions, 0)
    assert.ok(after.rss < settled.rss * 1.1 + 4 * MEGABYTE, `${settled.rss / MEGABYTE} → ${after.rss / MEGABYTE} MiB`)
    await host.stop()
  })
})
