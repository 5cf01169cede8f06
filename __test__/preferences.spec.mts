// Preferences that the application keeps: what reaches its hooks, what comes back of them, and what that may cost.

import assert from 'node:assert/strict'
import { performance } from 'node:perf_hooks'
import { describe, it } from 'node:test'
import { constants, deflateRawSync } from 'node:zlib'
import type { WebSocketServiceOptions } from 'carillon'
import { Opcode, frame } from './support/raw.mjs'
import { TestServer, type Scope } from './support/server.mjs'
import { within } from './support/waiting.mjs'

type Preferences = NonNullable<WebSocketServiceOptions['preferences']>

const MEGABYTE = 1024 * 1024
const MAX_PAYLOAD = 102_400
const MAX_CALLS = 8
const FRAMES: WebSocketServiceOptions = { batching: 'frames', runtime: { MESSAGE_BATCH_DELAY: 5 } }
const nothing = (): void => {}

async function open(test: Scope, preferences: Partial<Preferences>, options: WebSocketServiceOptions = {}) {
  const site = await TestServer.open(test, { ...FRAMES, ...options, preferences: { load: nothing, save: nothing, ...preferences } })
  const client = await site.connect('ann')
  await client.take('connected')
  return { site, client }
}

/** A compressed message. */
function deflated(message: string): Buffer {
  const payload = deflateRawSync(message, { finishFlush: constants.Z_SYNC_FLUSH })
  return frame(Opcode.text, payload.subarray(0, -4), { rsv: 4 })
}

const updateOf = (preferences: string, messageId?: string): string =>
  `{"type":"update_preferences","data":{"preferences":${preferences}}${messageId === undefined ? '' : `,"messageId":${messageId}`}}`

describe('preferences that are saved', () => {
  it('reach the hook as JSON.parse reads them, and go back as the bytes that came', async (test) => {
    const saved: unknown[] = []
    const { client } = await open(test, { save: (_, preferences) => void saved.push(preferences) })
    const deep = `${'['.repeat(2000)}1${']'.repeat(2000)}`
    const all = [
      '{"cut":"\\ud800","whole":"\\ud83d\\ude00","raw":"😀"}',
      '{"__proto__":{"admin":true},"constructor":1}',
      '{"a":1,"a":2, "10":1, "b":1.0, "9":1e400}',
      `{"deep":${deep}}`,
      `{ "lastUpdated" : "never" }`,
    ]
    for (const preferences of all) {
      const start = client.frames.length
      client.sendText(updateOf(preferences))
      const { timestamp } = await client.take('preferences_updated')
      const data = preferences.includes('lastUpdated')
        ? preferences.replace('"never"', JSON.stringify(timestamp))
        : `${preferences.slice(0, -1)},"lastUpdated":${JSON.stringify(timestamp)}}`
      assert.equal(
        client.frames[start],
        `{"type":"preferences_updated","data":${data},"message":"Preferences updated successfully","timestamp":${JSON.stringify(timestamp)}}`,
      )
    }
    // Too deep for `deepEqual`.
    assert.deepEqual(saved.map((one) => JSON.stringify(one)), all.map((one) => JSON.stringify(JSON.parse(one))))
    assert.equal((saved[2] as { 9: number })[9], Infinity)
    assert.equal((saved[0] as { cut: string }).cut.charCodeAt(0), 0xd800)
    assert.equal((Object.prototype as { admin?: unknown }).admin, undefined)
  })

  it('must be an object: nothing else reaches the hook', async (test) => {
    let calls = 0
    const { client } = await open(test, { save: () => void calls++ })
    for (const [index, given] of ['"text"', '["a"]', '[]', '5', 'true', 'false', 'null', '""', '0'].entries()) {
      client.sendText(updateOf(given))
      assert.deepEqual(await client.take('error'), { type: 'error', message: 'Preferences data required' }, given)
      client.sendText(updateOf(given, `"m${index}"`))
      assert.deepEqual(await client.take('error'), { type: 'error', message: 'Preferences data required', messageId: `m${index}` }, given)
    }
    assert.equal(calls, 0)
  })

  it('that fail are told with the id of their request', async (test) => {
    const fail = (): never => {
      throw new Error('the database is down')
    }
    const { client } = await open(test, { load: fail, save: fail })
    client.send('get_preferences', undefined, { messageId: { a: [1] } })
    assert.deepEqual(await client.take('error'), { type: 'error', message: 'Failed to get preferences', messageId: { a: [1] } })
    client.send('update_preferences', { preferences: {} }, { messageId: 0 })
    assert.deepEqual(await client.take('error'), { type: 'error', message: 'Failed to update preferences', messageId: 0 })
    assert.deepEqual(client.received('ack'), [{ type: 'ack', messageId: { a: [1] } }])
  })
})

describe('preferences that are loaded', () => {
  it('may hold cut surrogates and be as deep as they like', async (test) => {
    const deep = JSON.parse(`${'['.repeat(500)}1${']'.repeat(500)}`)
    for (const loaded of [{ cut: 'a\ud800', text: '😀' }, { deep }, 'text', 5, false, null, []]) {
      const { client } = await open(test, { load: () => loaded as never })
      client.send('get_preferences')
      assert.deepEqual((await client.take('preferences'))['data'], loaded)
    }
  })

  it('that cannot be sent are an error to the client and a line in the log, never null', async (test) => {
    const cycle: Record<string, unknown> = {}
    cycle['self'] = cycle
    for (const loaded of [undefined, () => 1, Symbol('s'), { toJSON: () => undefined }, { big: 1n }, cycle]) {
      const lines: string[] = []
      const logger = { warn: (line: string) => void lines.push(line) }
      const { site, client } = await open(test, { load: () => loaded as never }, { logger })
      client.send('get_preferences', undefined, { messageId: 'm' })
      assert.deepEqual(await client.take('error'), { type: 'error', message: 'Failed to get preferences', messageId: 'm' })
      assert.deepEqual(client.received('preferences'), [])
      await site.settled('ann', client)
      assert.ok(lines.some((line) => line.includes('preferences')), `${String(lines)} for ${typeof loaded}`)
    }
  })
})

describe('what preferences cost', () => {
  const COUNT = 36
  const length = MAX_PAYLOAD - 100
  const values: Array<[name: string, preferences: string, isSaved: boolean]> = [
    ['a string', `"${'x'.repeat(length)}"`, false],
    ['a list', `[${'1,'.repeat(length / 2 - 1)}1]`, false],
    ['an object of one string', `{"a":"${'x'.repeat(length - 10)}"}`, true],
    ['an object of one list', `{"a":[${'1,'.repeat(length / 2 - 10)}1]}`, true],
    ['an object of equal members', `{${'"a":1,'.repeat(length / 6 - 2)}"a":1}`, true],
    ['an object that is deep', `{"a":${'['.repeat(length / 2 - 10)}${']'.repeat(length / 2 - 10)}}`, true],
  ]
  for (const [name, preferences, isSaved] of values) {
    it(`is in proportion to the bytes of the messages: ${name}`, async (test) => {
      let underWay = 0
      let most = 0
      let release = (): void => {}
      const released = new Promise<void>((resolve) => (release = resolve))
      let isFull = (): void => {}
      const full = new Promise<void>((resolve) => (isFull = resolve))
      const save = async (): Promise<void> => {
        most = Math.max(most, ++underWay)
        if (underWay === MAX_CALLS) isFull()
        await released
        underWay--
      }
      const { site } = await open(test, { save }, { lookupTimeout: 60_000 })
      const peer = await site.rawConnection('bob', { 'Sec-WebSocket-Extensions': 'permessage-deflate' })
      const message = updateOf(preferences)
      const bytes = Buffer.concat(Array.from({ length: COUNT }, () => deflated(message)))
      // What JavaScript would need to read the messages alone.
      const reading = performance.now()
      for (let index = 0; index < COUNT; index++) JSON.parse(message)
      const read = performance.now() - reading

      const before = { rss: process.memoryUsage.rss(), loop: performance.eventLoopUtilization() }
      await peer.write(bytes)
      // Other connections are served meanwhile.
      const other = await site.connect('eve')
      if (isSaved) await within(full, 'as many calls as there may be')
      for (let index = 0; index < 20; index++) await other.probe()
      const grown = process.memoryUsage.rss() - before.rss
      const { active } = performance.eventLoopUtilization(before.loop)
      release()
      assert.equal(most, isSaved ? MAX_CALLS : 0)
      assert.ok(grown < 64 * MEGABYTE, `${Math.round(grown / MEGABYTE)} MiB`)
      assert.ok(active < 10 * read + 500, `${Math.round(active)} ms, and ${Math.round(read)} ms to parse`)
      let replies = 0
      while (replies < COUNT) {
        const { payload, rsv } = await peer.frameOf(Opcode.text)
        const isGreeting = rsv === 0 && payload.includes('"connected"')
        if (!isGreeting) replies++
      }
    })
  }
})
