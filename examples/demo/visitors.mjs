// A crowd of readers: real WebSocket clients in a worker thread, so that the live panel has something to show.
// They come, follow a few bills, measure the way to the server now and then, and leave again.

import { Worker, isMainThread, workerData } from 'node:worker_threads'
import { fileURLToPath } from 'node:url'
import jwt from 'jsonwebtoken'
import WebSocket from 'ws'

export function startVisitors({ url, jwtSecret, bills, count }) {
  if (!(count > 0)) return undefined
  const worker = new Worker(fileURLToPath(import.meta.url), {
    workerData: { url, jwtSecret, billIds: bills.list().map(({ id }) => id), count: Math.min(count, 1000) },
  })
  worker.on('error', (error) => console.error(`visitors: ${error.message}`))
  worker.unref()
  return worker
}

if (!isMainThread && workerData?.billIds) {
  for (let n = 0; n < workerData.count; n++) setTimeout(visit, between(0, 8_000), n)
}

function visit(n) {
  const { url, jwtSecret, billIds } = workerData
  const token = jwt.sign({ user_id: `reader-${n}` }, jwtSecret, { expiresIn: '5m' })
  const socket = new WebSocket(`${url}?token=${token}`)
  const say = (message) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify({ ...message, timestamp: Date.now() }))
  const timers = []
  socket.on('open', () => {
    // Squaring favours the front of the list: some bills are simply more popular.
    const follows = new Set(Array.from({ length: between(1, 4) }, () => billIds[Math.floor(Math.random() ** 2 * billIds.length)]))
    say({ type: 'batch_subscribe', data: { bill_ids: [...follows] } })
    timers.push(setInterval(() => say({ type: 'ping' }), between(1_500, 5_000)))
    timers.push(setTimeout(() => socket.close(1000, 'Client disconnect'), between(20_000, 90_000)))
  })
  socket.on('message', () => {})
  socket.on('error', () => {})
  socket.on('close', () => {
    for (const timer of timers) clearTimeout(timer)
    setTimeout(visit, between(1_000, 10_000), n)
  })
}

function between(low, high) {
  return Math.floor(low + Math.random() * (high - low + 1))
}
