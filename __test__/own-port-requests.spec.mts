// Requests on the own port as RFC 9110 and RFC 9112 have them: hosts, targets, versions, bodies and other protocols.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { WebSocketService } from 'carillon'
import { Opcode, RawPeer, frame, upgradeRequest, type RequestOptions, type Response } from './support/raw.mjs'
import { options, withToken } from './support/server.mjs'
import { tokenOf } from './support/token.mjs'

describe('a request on the own port', () => {
  let service: WebSocketService
  let port: number

  before(async () => {
    service = new WebSocketService(options({ allowedOrigins: 'same-host', runtime: { MAX_CONNECTIONS_PER_USER: 100 } }))
    port = (await service.listen({ port: 0, host: '127.0.0.1' })).port
  })
  after(() => service.shutdown())

  async function answer(request: string | Buffer): Promise<Response> {
    const peer = await RawPeer.connect(port)
    void peer.write(request)
    const response = await peer.response()
    peer.destroy()
    return response
  }

  const good = (rest: RequestOptions = {}): string => upgradeRequest({ ...withToken(tokenOf('ann')), ...rest })
  const plain = (line: string, headers: string[] = ['Host: a']): string => `${line}\r\n${headers.join('\r\n')}\r\n\r\n`.replace('\r\n\r\n\r\n', '\r\n\r\n')

  const upgrades: Array<[name: string, status: number, request: () => string]> = [
    ['names its host', 101, () => good()],
    ['names no host', 400, () => good({ headers: { Host: undefined } })],
    ['names two hosts', 400, () => good({ headers: { Host: ['localhost', 'localhost'] } })],
    ['names a host that is none', 400, () => good({ headers: { Host: 'a b' } })],
    ['has a target in absolute form', 101, () => good({ target: `http://localhost/ws?token=${tokenOf('ann')}` })],
    ['has a target in absolute form, of a page of that host', 101, () => good({ target: `http://b.example/ws?token=${tokenOf('ann')}`, headers: { Origin: 'http://b.example' } })],
    ['has a target in absolute form, of a page of the other host', 403, () => good({ target: `http://b.example/ws?token=${tokenOf('ann')}`, headers: { Origin: 'http://localhost' } })],
    ['has a target in absolute form and no host', 400, () => good({ target: `http://localhost/ws?token=${tokenOf('ann')}`, headers: { Host: undefined } })],
    ['has a target of another scheme', 400, () => good({ target: `ftp://localhost/ws?token=${tokenOf('ann')}` })],
    ['is HTTP/1.0, which has no upgrades', 426, () => good({ version: '1.0' })],
    ['is for version 13.0', 400, () => good({ headers: { 'Sec-WebSocket-Version': '13.0' } })],
    ['says that it has no body', 101, () => good({ headers: { 'Content-Length': '0' } })],
    ['has a body', 400, () => good({ headers: { 'Content-Length': '6' } })],
    ['has a body in chunks', 400, () => good({ headers: { 'Transfer-Encoding': 'chunked' } })],
    ['has two lengths', 400, () => good({ headers: { 'Content-Length': ['0', '6'] } })],
    ['offers another protocol as well', 101, () => good({ headers: { Upgrade: 'h2c, WebSocket' } })],
    ['offers another protocol alone', 426, () => good({ headers: { Upgrade: 'h2c' } })],
  ]
  for (const [name, status, request] of upgrades) {
    it(`that ${name}: ${status}`, async () => {
      assert.equal((await answer(request())).status, status)
    })
  }

  it('whose body is a frame does nothing', async () => {
    const body = frame(Opcode.text, '{"type":"subscribe","data":{"bill_id":31337}}')
    const head = Buffer.from(good({ headers: { 'Content-Length': String(body.length) } }))
    assert.equal((await answer(Buffer.concat([head, body]))).status, 400)
    assert.deepEqual(service.getBillSubscribers(31337), [])
  })

  const others: Array<[request: string, status: number, headers: Record<string, string>]> = [
    [plain('GET /health HTTP/1.1', ['Host: a', 'Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA']), 200, {}],
    [plain('GET http://a/health HTTP/1.1'), 200, {}],
    [plain('GET /health HTTP/1.0', []), 200, {}],
    [plain('GET /health HTTP/1.1', []), 400, {}],
    [plain('GET /health HTTP/1.1', ['Host: a', 'Host: a']), 400, {}],
    [plain('POST /health HTTP/1.1', ['Host: a', 'Connection: Upgrade', 'Upgrade: h2c', 'Content-Length: 0']), 405, { allow: 'GET, HEAD' }],
    [plain('POST /health HTTP/1.1', ['Host: a', 'Content-Length: 0']), 405, { allow: 'GET, HEAD' }],
    [plain('POST /ws HTTP/1.1', ['Host: a', 'Content-Length: 0']), 405, { allow: 'GET' }],
    [plain('POST /elsewhere HTTP/1.1', ['Host: a', 'Content-Length: 0']), 404, {}],
    [plain('GET /ws HTTP/1.1'), 426, { upgrade: 'websocket' }],
  ]
  for (const [request, status, headers] of others) {
    it(`${request.replaceAll('\r\n', ' | ').trim()} ${status}`, async () => {
      const response = await answer(request)
      assert.equal(response.status, status)
      for (const [name, value] of Object.entries(headers)) assert.equal(response.headers[name], value)
    })
  }

  it('that is refused names what is asked for', async () => {
    const unauthorized = await answer(upgradeRequest(withToken('wrong')))
    assert.deepEqual([unauthorized.status, unauthorized.headers['www-authenticate']], [401, 'Bearer realm="websocket"'])
    const posted = await answer(good({ method: 'POST' }))
    assert.deepEqual([posted.status, posted.headers['allow']], [405, 'GET'])
  })
})
