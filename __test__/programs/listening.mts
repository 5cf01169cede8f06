// A service with a port of its own. By mode: it ends itself once bill 99 has a subscriber, it ends on a message, or nothing
// holds it any more.

import { WebSocketService } from 'carillon'
import { options } from '../support/server.mjs'

const local = { port: 0, host: '127.0.0.1' }
const [mode] = process.argv.slice(2)

if (mode === 'no key') {
  try {
    await new WebSocketService().listen(local)
  } catch (error) {
    process.send?.({ type: 'rejected', code: (error as { code: string }).code })
  }
  process.disconnect?.()
} else {
  const port = await start()
  for (let round = 0; round < 5; round++) {
    globalThis.gc?.()
    await new Promise(setImmediate)
  }
  if (mode === 'exit') process.on('message', () => process.exit(7))
  process.send?.({ type: 'listening', port }, () => mode !== 'exit' && process.disconnect?.())
}

async function start(): Promise<number> {
  const service = new WebSocketService(options())
  if (mode !== 'forgotten') {
    service.on('subscription', ({ billId }) => {
      if (billId === 99) void service.shutdown()
    })
  }
  return (await service.listen(local)).port
}
