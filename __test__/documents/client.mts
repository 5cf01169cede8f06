// Code of a page. `WebSocket`, `fetchToken`, `show` and `reload` are what the browser and the page have; wss://example.org is a service here.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { WebSocket as WebSocketOfUndici } from 'undici'
import { Cleanup, TestServer } from '../support/server.mjs'
import { eventually } from '../support/waiting.mjs'
import { tokenOf } from '../support/token.mjs'

const cleanup = new Cleanup()
const site = await TestServer.open(cleanup, { authTimeout: 60_000 })
const { service } = site
const url = `ws://127.0.0.1:${site.port}/ws`
globalThis.WebSocket = class extends (WebSocketOfUndici as unknown as typeof WebSocket) {
  constructor(address: string | URL, protocols?: string | string[]) {
    super(String(address).replace('wss://example.org', `ws://127.0.0.1:${site.port}`), protocols)
  }
}
const token = tokenOf('ann')
const fetchToken = async (): Promise<string> => token
const shown: unknown[] = []
const show = (value: unknown): void => void shown.push(value)
let reloads = 0
const reload = (): void => void reloads++
/** Publishes an update of bill 42, once it is followed. */
async function publish(data: object): Promise<void> {
  await eventually(() => service.getBillSubscribers(42).length > 0, 'bill 42 is followed')
  service.broadcastBillUpdate(42, { type: 'status_change', data, timestamp: new Date() })
}

// example

// check

await cleanup.run()
