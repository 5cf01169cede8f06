// Opens connections with plain sockets and counts the bench messages that arrive: cheap enough not to be the bottleneck.

import { randomBytes } from 'node:crypto'
import net from 'node:net'
import jwt from 'jsonwebtoken'

const [port, connections] = process.argv.slice(2).map(Number)
const AT_ONCE = 200
const MARK = Buffer.from('"type":"bench"')
const sockets = []
let received = 0

function frame(text) {
  const payload = Buffer.from(text)
  const mask = randomBytes(4)
  const head = Buffer.from([0x81, 0x80 | payload.length, ...mask])
  return Buffer.concat([head, payload.map((byte, index) => byte ^ mask[index % 4])])
}

function open(number) {
  return new Promise((resolve, reject) => {
    const token = jwt.sign({ user_id: `user-${process.pid}-${number}` }, process.env.BENCH_SECRET)
    const socket = net.connect(port, '127.0.0.1')
    socket.setNoDelay(true)
    socket.on('error', reject)
    socket.once('connect', () =>
      socket.write(
        `GET /ws?token=${token} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
          `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n\r\n`,
      ),
    )
    socket.once('data', (answer) => {
      if (!answer.toString('latin1').startsWith('HTTP/1.1 101')) return reject(new Error(answer.toString('latin1')))
      socket.write(frame('{"type":"subscribe","data":{"bill_id":1}}'))
      let rest = answer
      const count = (chunk) => {
        rest = rest.length ? Buffer.concat([rest, chunk]) : chunk
        let from = 0
        for (let at = rest.indexOf(MARK); at >= 0; at = rest.indexOf(MARK, from)) {
          received += 1
          from = at + MARK.length
        }
        rest = Buffer.from(rest.subarray(Math.max(from, rest.length - MARK.length + 1)))
      }
      socket.on('data', count)
      resolve(socket)
    })
  })
}

for (let next = 0; next < connections; next += AT_ONCE) {
  const wave = Array.from({ length: Math.min(AT_ONCE, connections - next) }, (_, index) => open(next + index))
  sockets.push(...(await Promise.all(wave)))
}
process.send({ open: sockets.length })

process.on('message', ({ ask }) => {
  if (ask === 'received') process.send({ received })
})
process.on('disconnect', () => process.exit())
