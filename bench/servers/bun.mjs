// Bun's own server and its publish/subscribe, run by Bun.

import { createSecretKey } from 'node:crypto'
import jwt from 'jsonwebtoken'
import { greeting, message, reply, serve } from './serve.mjs'
import { tls } from './tls.mjs'

const { BENCH_SECRET, BENCH_COMPRESSION } = process.env
// Given a string, jsonwebtoken tries it as a public key first, at a price.
const key = createSecretKey(Buffer.from(BENCH_SECRET))
const compression = BENCH_COMPRESSION === 'on'
const COMPRESSED_FROM = 1024

const server = Bun.serve({
  hostname: '127.0.0.1',
  port: 0,
  tls,
  fetch(request, server) {
    let user
    try {
      user = jwt.verify(new URL(request.url).searchParams.get('token'), key).user_id
    } catch {
      return new Response('Unauthorized', { status: 401 })
    }
    return server.upgrade(request, { data: { user } }) ? undefined : new Response('Bad Request', { status: 400 })
  },
  websocket: {
    perMessageDeflate: compression && { compress: 'shared', decompress: 'shared' },
    open(connection) {
      connection.subscribe('all')
      connection.send(JSON.stringify(greeting(connection.data.user)))
    },
    message(connection, text) {
      connection.send(JSON.stringify(reply(JSON.parse(text), (bill) => connection.subscribe(`bill:${bill}`))))
    },
  },
})

serve(server.port, {
  publish(topic, contents) {
    const text = JSON.stringify(message(topic, contents))
    server.publish(topic === 0 ? 'all' : `bill:${topic}`, text, compression && text.length >= COMPRESSED_FROM)
  },
  usage: () => ({ connections: server.pendingWebSockets }),
})
