// What a careful application on `ws` does: tokens verified at the upgrade, one JSON.stringify per message.

import http from 'node:http'
import jwt from 'jsonwebtoken'
import { WebSocketServer } from 'ws'
import { serve } from './serve.mjs'

const server = http.createServer()
const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false })
const subscribers = new Set()
server.on('upgrade', (request, socket, head) => {
  const token = new URL(request.url, 'http://localhost').searchParams.get('token')
  jwt.verify(token, process.env.BENCH_SECRET)
  sockets.handleUpgrade(request, socket, head, (connection) => {
    connection.on('message', (message) => {
      const { type, data } = JSON.parse(message)
      if (type === 'subscribe') subscribers.add(connection)
      connection.send(JSON.stringify({ type: 'subscribed', data }))
    })
  })
})

serve(server, {
  count: () => sockets.clients.size,
  subscribed: () => subscribers.size,
  publish(payload) {
    const message = Buffer.from(JSON.stringify({ type: 'bench', data: { payload }, timestamp: new Date(), priority: 'immediate' }))
    for (const connection of sockets.clients) connection.send(message, { binary: false })
  },
})
