// A client in a thread of its own: it goes on while the thread of the service stands still.

import { parentPort, workerData } from 'node:worker_threads'
import { Client } from '../support/client.mjs'

const client = await Client.open((workerData as { url: string }).url)
let pings = 0
client.socket.on('ping', () => parentPort?.postMessage({ type: 'ping', pings: ++pings }))
void client.closed.then((closed) => parentPort?.postMessage({ type: 'closed', ...closed }))
parentPort?.on('message', async (order: string) => {
  if (order === 'probe') {
    await client.probe()
    parentPort?.postMessage({ type: 'probed', pings })
  } else {
    client.socket.terminate()
    parentPort?.close()
  }
})
parentPort?.postMessage({ type: 'open' })
