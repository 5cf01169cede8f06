// A service in an application that has replaced the methods of promises, so that every promise seems to be fulfilled with true.

import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect } from 'node:net'
import { WebSocketService } from 'carillon'
import { upgradeRequest } from '../support/raw.mjs'
import { application, options, withToken } from '../support/server.mjs'
import { tokenOf } from '../support/token.mjs'

const { then } = Promise.prototype
const { parse } = JSON

/** Without promises: they are not what they were. */
function requestUpgrade(port: number, user: string, answered: (status: number) => void): void {
  const socket = connect(port, '127.0.0.1', () => socket.write(upgradeRequest(withToken(tokenOf(user)))))
  socket.once('data', (bytes) => {
    answered(Number(String(bytes).split(' ')[1]))
    socket.destroy()
  })
}

const http = createServer(application)
const service = new WebSocketService(options({ lookupUser: (user) => Object.assign(Promise.resolve(user === 'yes'), {}) }))
service.initialize(http)
http.listen(0, '127.0.0.1')
await once(http, 'listening')
const { port } = http.address() as { port: number }
Promise.prototype.then = function (this: Promise<unknown>, onFulfilled?: ((value: never) => unknown) | null, onRejected?: ((reason: never) => unknown) | null) {
  return then.call(this, () => onFulfilled?.(true as never), onRejected as never)
} as typeof then
JSON.parse = ((text: string) => parse(text)) as typeof JSON.parse
requestUpgrade(port, 'yes', (yes) => {
  requestUpgrade(port, 'no', (no) => {
    Promise.prototype.then = then
    process.send?.({ type: 'done', statuses: { yes, no } })
  })
})
process.on('message', () => process.exit(0))
