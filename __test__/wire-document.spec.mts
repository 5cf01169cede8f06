// docs/client.md against the service: what it says a client sends is sent, and what it says comes back is compared.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { blocks, type Block } from './support/markdown.mjs'
import { Client, type Message } from './support/client.mjs'
import { TestServer } from './support/server.mjs'
import { tokenOf } from './support/token.mjs'
import { ROOT } from './support/tools.mjs'

const BLOCKS = blocks(readFileSync(join(ROOT, 'docs/client.md'), 'utf8')).filter(({ info }) => ['json client', 'json service', 'js call'].includes(info))
const HEADINGS = [...new Set(BLOCKS.map(({ heading }) => heading))]
const REQUESTS = [
  'auth', 'batch_subscribe', 'batch_unsubscribe', 'get_preferences', 'ping', 'pong', 'subscribe', 'unsubscribe', 'update_preferences',
]
const ANSWERS = [
  'ack', 'auth_success', 'batch', 'batch_subscribed', 'batch_unsubscribed', 'bill_update', 'connected', 'error', 'maintenance', 'notification',
  'pong', 'preferences', 'preferences_updated', 'server_shutdown', 'subscribed', 'system_status', 'system_warning', 'unsubscribed',
]

describe('docs/client.md', () => {
  it('has an example of every message', () => {
    const types = (info: string): string[] =>
      [...new Set(BLOCKS.filter((block) => block.info === info).map(({ text }) => (JSON.parse(text) as Message).type))].sort()
    // One request is an example of a type that does not exist.
    assert.deepEqual(types('json client').filter((type) => type !== 'vote'), REQUESTS)
    assert.deepEqual(types('json service'), ANSWERS)
  })

  for (const heading of HEADINGS) {
    it(`tells the truth about ${heading}`, async (test) => {
      const site = await TestServer.open(test, { authTimeout: 60_000 })
      const steps = BLOCKS.filter((block) => block.heading === heading)
      const client = heading === 'auth' ? await Client.open(site.url('')) : await Client.open(site.url(tokenOf('ann')))
      test.after(() => client.socket.terminate())
      const frames = new Frames(client)
      if (heading !== 'connected' && heading !== 'auth') {
        while ((await frames.next()).type !== 'connected');
        if (steps.some(({ info }) => info === 'js call')) {
          client.send('subscribe', { bill_id: 42 })
          while ((await frames.next()).type !== 'subscribed');
        }
      }
      for (const [index, step] of steps.entries()) {
        await carryOut(step, site, client, frames)
        // The answer to the first token is described elsewhere.
        if (heading === 'auth' && index === 0) assert.equal((await frames.next()).type, 'connected')
      }
      // Nothing came that is not in the document: the next message is the answer to a request of the test's own.
      if (heading === 'server_shutdown') return
      client.send('unsubscribe', { bill_id: 977 })
      assert.equal((await frames.next())['data'].bill_id, 977)
    })
  }
})

async function carryOut({ info, text }: Block, site: TestServer, client: Client, frames: Frames): Promise<void> {
  switch (info) {
    case 'json client': {
      const message = JSON.parse(text) as Message
      if (message.type === 'auth') message['data'].token = tokenOf('ann')
      return client.sendText(JSON.stringify(message))
    }
    case 'json service':
      return assert.deepEqual(comparable(await frames.next()), comparable(JSON.parse(text) as Message))
    case 'js call':
      return void new Function('service', text)(site.service)
    default:
      assert.fail(`a block of ${info}`)
  }
}

/** The messages of a connection as they came: batches stay what they are, unless replies happened to wait together. */
class Frames {
  readonly #client: Client
  readonly #waiting: Message[] = []
  #read = 0

  constructor(client: Client) {
    this.#client = client
  }

  async next(): Promise<Message> {
    for (;;) {
      const waiting = this.#waiting.shift()
      if (waiting) return waiting
      while (this.#client.frames.length === this.#read) await this.#client.next()
      const message = JSON.parse(this.#client.frames[this.#read++] ?? '') as Message
      const updates = message.type === 'batch' && (message['messages'] as Message[]).every(({ type }) => type === 'bill_update')
      this.#waiting.push(...(message.type === 'batch' && !updates ? (message['messages'] as Message[]) : [message]))
    }
  }
}

/** Times and numbers of connections are those of the moment. */
function comparable(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value), (_key, member: unknown) => {
    if (typeof member !== 'string') return member
    return member.replace(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, '<time>').replace(/^ann-\d+$/, 'ann-<n>')
  })
}
