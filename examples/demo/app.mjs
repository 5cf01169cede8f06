// The HTTP side: the page, logging in, bills, publishing, and what the service says about itself.

import { fileURLToPath } from 'node:url'
import express from 'express'
import jwt from 'jsonwebtoken'
import { STAGES, UPDATE_TYPES } from './bills.mjs'
import { memberById, users } from './users.mjs'

const PUBLIC = fileURLToPath(new URL('public', import.meta.url))
const PUBLISHABLE = UPDATE_TYPES.filter((type) => type !== 'vote_tally')
const MAX_TEXT = 280

export function createApp({ bills, publish, simulation, jwtSecret, live }) {
  const app = express()
  app.disable('x-powered-by')
  app.use((_req, res, next) => {
    res.set({
      'Content-Security-Policy': "default-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'",
      'X-Content-Type-Options': 'nosniff',
      'Referrer-Policy': 'no-referrer',
    })
    next()
  })
  app.use(express.static(PUBLIC))
  app.use(express.json({ limit: '10kb' }))

  app.get('/api/users', (_req, res) => res.json(users))

  // A demonstration asks for no password. What it hands out is what any application would: a short-lived JWT.
  app.post('/api/login', (req, res) => {
    const user = memberById(req.body?.userId)
    if (!user) return res.status(404).json({ error: 'No such user' })
    const token = jwt.sign({ user_id: user.id, email: `${user.id}@example.org` }, jwtSecret, { expiresIn: '15m' })
    res.json({ user, token })
  })

  app.use('/api', (req, res, next) => {
    try {
      const { user_id } = jwt.verify(req.get('authorization')?.replace('Bearer ', '') ?? '', jwtSecret, { algorithms: ['HS256'] })
      req.user = memberById(user_id)
    } catch {
      // No token, an expired one, or one of another secret: all the same to whoever asks.
    }
    if (!req.user) return res.status(401).json({ error: 'Log in first' })
    next()
  })

  app.get('/api/bills', (_req, res) => {
    res.json({ bills: bills.list(), recent: bills.recent(), stages: STAGES, sitting: simulation.now() })
  })

  app.post('/api/bills/:id/updates', (req, res) => {
    const bill = bills.get(Number(req.params.id))
    if (!bill) return res.status(404).json({ error: 'No such bill' })
    const { type, text } = req.body ?? {}
    if (!PUBLISHABLE.includes(type)) return res.status(400).json({ error: 'Unknown kind of update' })
    if (typeof text !== 'string' || !text.trim() || text.length > MAX_TEXT) {
      return res.status(400).json({ error: `Write something, at most ${MAX_TEXT} characters` })
    }
    const { name, role } = req.user
    const { followers } = publish(bill.id, type, { text: text.trim(), author: { name, role } })
    res.status(201).json({ followers })
  })

  app.get('/api/service', (req, res) => {
    res.json({
      stats: live.getStats(),
      health: live.getHealthStatus(),
      metrics: live.getMetrics(),
      followers: Object.fromEntries(bills.list().map(({ id }) => [id, live.getBillSubscribers(id).length])),
      you: { connections: live.getConnectionCount(req.user.id), follows: live.getUserSubscriptions(req.user.id).length },
    })
  })

  // For the demonstration only: a real application reports what it has measured.
  app.post('/api/pressure', (req, res) => {
    const { pressure } = req.body ?? {}
    if (typeof pressure !== 'number' || pressure < 0 || pressure > 1) return res.status(400).json({ error: 'A pressure is a number from 0 to 1' })
    live.reportMemoryPressure({ pressure, threshold: 0.85 })
    res.json({ level: live.getHealthStatus().degradationLevel })
  })

  app.use((_req, res) => res.status(404).json({ error: 'Not found' }))
  app.use((error, _req, res, _next) => res.status(error.status ?? 500).json({ error: error.expose ? error.message : 'Something went wrong' }))
  return app
}
