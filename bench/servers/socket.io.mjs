// Socket.IO over WebSocket alone: bills are rooms, the token comes with the namespace's handshake.

import { createSecretKey } from 'node:crypto'
import http from 'node:http'
import jwt from 'jsonwebtoken'
import { Server } from 'socket.io'
import { greeting, message, reply, serve } from './serve.mjs'

const { BENCH_SECRET, BENCH_COMPRESSION } = process.env
// Given a string, jsonwebtoken tries it as a public key first, at a price.
const key = createSecretKey(Buffer.from(BENCH_SECRET))

const server = http.createServer()
const io = new Server(server, {
  transports: ['websocket'],
  serveClient: false,
  perMessageDeflate: BENCH_COMPRESSION === 'on' && { threshold: 1024, serverNoContextTakeover: true, clientNoContextTakeover: true },
})

io.use((socket, next) => {
  try {
    socket.data.user = jwt.verify(socket.handshake.auth.token, key).user_id
    next()
  } catch (error) {
    next(error)
  }
})

io.on('connection', (socket) => {
  socket.on('message', (request) => socket.emit('message', reply(request, (bill) => socket.join(`bill:${bill}`))))
  socket.emit('message', greeting(socket.data.user))
})

await new Promise((resolve) => server.listen(0, '127.0.0.1', 4096, resolve))
serve(server.address().port, {
  publish: (topic, contents) => (topic === 0 ? io : io.to(`bill:${topic}`)).emit('message', message(topic, contents)),
  usage: () => ({ connections: io.engine.clientsCount }),
})
