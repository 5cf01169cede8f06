// What applications on `ws` do. BENCH_MODE: `naive` serialises for every connection, `tuned` once per message.

import { createSecretKey } from 'node:crypto'
import jwt from 'jsonwebtoken'
import { WebSocketServer } from 'ws'
import { greeting, message, reply, serve } from './serve.mjs'
import { createServer } from './tls.mjs'

const { BENCH_SECRET, BENCH_MODE = 'tuned', BENCH_COMPRESSION } = process.env
const naive = BENCH_MODE === 'naive'
// Given a string, jsonwebtoken tries it as a public key first, for 300 µs each time.
const key = naive ? BENCH_SECRET : createSecretKey(Buffer.from(BENCH_SECRET))

const server = createServer()
const sockets = new WebSocketServer({
  noServer: true,
  clientTracking: true,
  perMessageDeflate: BENCH_COMPRESSION === 'on' && { threshold: 1024, serverNoContextTakeover: true, clientNoContextTakeover: true },
})
const topics = new Map()

server.on('upgrade', (request, socket, head) => {
  let user
  try {
    user = jwt.verify(new URL(request.url, 'http://localhost').searchParams.get('token'), key).user_id
  } catch {
    socket.end('HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\n')
    return
  }
  sockets.handleUpgrade(request, socket, head, (connection) => welcome(connection, user))
})

function welcome(connection, user) {
  const subscribed = new Set()
  const subscribe = (bill) => {
    subscribed.add(bill)
    if (!topics.has(bill)) topics.set(bill, new Set())
    topics.get(bill).add(connection)
  }
  connection.on('message', (text) => connection.send(JSON.stringify(reply(JSON.parse(text), subscribe))))
  connection.on('error', () => {})
  connection.on('close', () => {
    for (const bill of subscribed) topics.get(bill).delete(connection)
  })
  connection.send(JSON.stringify(greeting(user)))
}

function publish(topic, contents) {
  const receivers = topic === 0 ? sockets.clients : (topics.get(topic) ?? [])
  const object = message(topic, contents)
  if (naive) {
    for (const connection of receivers) connection.send(JSON.stringify(object))
    return
  }
  const text = Buffer.from(JSON.stringify(object))
  for (const connection of receivers) connection.send(text, { binary: false })
}

await new Promise((resolve) => server.listen(0, '127.0.0.1', 4096, resolve))
serve(server.address().port, { publish, usage: () => ({ connections: sockets.clients.size }) })
