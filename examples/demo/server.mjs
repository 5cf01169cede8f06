// A bill tracker as an application would build it: Express serves pages and an HTTP API, `webSocketService` shares the
// same port and does everything live. Run it with `npm run demo`; PORT, HOST, JWT_SECRET, PACE and VISITORS adjust it.

import { randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import { webSocketService } from 'carillon'
import { createApp } from './app.mjs'
import { BillStore } from './bills.mjs'
import { Simulation } from './simulation.mjs'
import { findUser } from './users.mjs'
import { startVisitors } from './visitors.mjs'

const port = Number(process.env.PORT ?? 3000)
const host = process.env.HOST ?? 'localhost'
// A secret of this process alone is enough: the page asks for a fresh token before every connection.
const jwtSecret = process.env.JWT_SECRET ?? randomBytes(32).toString('base64url')

webSocketService.configure({
  jwtSecret,
  jwtAlgorithms: ['HS256'],
  lookupUser: (userId) => findUser(userId),
  allowedOrigins: 'same-host',
  // The sixth tab takes the place of the first, and a page is told why it is turned away.
  connectionLimit: 'close-oldest',
  refusals: 'close',
  // Recovery from memory pressure goes by sixths of this: quick enough to watch.
  base: { HEALTH_CHECK_INTERVAL: 12_000 },
})
webSocketService.on('error', (error) => console.error(`live service: ${error.code} ${error.message}`))
webSocketService.on('slowConsumer', ({ userId, action }) => console.log(`live service: ${userId} reads too slowly (${action})`))

const bills = new BillStore()
const simulation = new Simulation({ bills, publish, announce, pace: Number(process.env.PACE ?? 1) })
const server = createServer(createApp({ bills, publish, simulation, jwtSecret, live: webSocketService }))
webSocketService.initialize(server)

let visitors
server.listen(port, host, () => {
  const { port: actual } = server.address()
  console.log(`Bill tracker: http://${host}:${actual}`)
  simulation.start()
  visitors = startVisitors({ url: `ws://${host}:${actual}/ws`, jwtSecret, bills, count: Number(process.env.VISITORS ?? 40) })
})
server.on('error', (error) => {
  console.error(error.code === 'EADDRINUSE' ? `Port ${port} is taken; choose another with PORT=…` : error.message)
  process.exitCode = 1
})

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, stop)

/** Records an update and tells everybody who follows the bill; the important ones also ring. */
function publish(billId, type, data) {
  const update = bills.record(billId, type, data)
  const followers = webSocketService.getBillSubscribers(billId)
  webSocketService.broadcastBillUpdate(billId, { type, data: update.data, timestamp: update.timestamp })
  if (type === 'voting_scheduled' || type === 'status_change') {
    const bill = bills.get(billId)
    for (const userId of followers) {
      webSocketService.sendUserNotification(userId, {
        type,
        title: type === 'voting_scheduled' ? 'A vote is coming up' : `${bill.title}: ${bill.stage}`,
        message: update.data.text,
        data: { bill_id: billId },
      })
    }
  }
  return { update, followers: followers.length }
}

/** Something for everybody, whatever they follow. */
function announce(type, data) {
  webSocketService.broadcastToAll({ type, data })
}

async function stop() {
  console.log('Closing …')
  simulation.stop()
  await webSocketService.shutdown()
  await visitors?.terminate()
  server.close(() => console.log('Closed.'))
  server.closeAllConnections()
}
