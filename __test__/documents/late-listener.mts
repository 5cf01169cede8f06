// A server of `ws` beside the service, whose application takes longer than a second to decide.

import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import type { IncomingMessage } from 'node:http'
import { WebSocketServer, type WebSocket } from 'ws'
import { Client } from '../support/client.mjs'
import { Cleanup, TestServer } from '../support/server.mjs'

const cleanup = new Cleanup()
const site = await TestServer.open(cleanup)
const { http: server } = site
const theirs = new WebSocketServer({ noServer: true })
const accept = (socket: WebSocket): void => socket.send('{"type":"hello"}')
const mayConnect = async ({ headers }: IncomingMessage): Promise<boolean> => {
  // The service waits one second for others: this is the case that the page is about.
  await sleep(1500)
  return headers['sec-websocket-protocol'] !== 'refused'
}

// example

const client = await Client.open(`ws://127.0.0.1:${site.port}/theirs`)
await client.take('hello')
await assert.rejects(Client.open(`ws://127.0.0.1:${site.port}/theirs`, ['refused']), /403/)
client.socket.terminate()

// check

await cleanup.run()
