// The handshake, byte for byte: who is let in, who is not and what they are told, what stays with the application.

import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { describe, it } from 'node:test'
import { WebSocket as UndiciWebSocket } from 'undici'
import { ACCEPT, KEY, Opcode, closeFrame, frame, text, upgradeRequest, type RequestOptions } from './support/raw.mjs'
import { TestServer, application, withToken } from './support/server.mjs'
import { tokenOf } from './support/token.mjs'
import { within } from './support/waiting.mjs'

const BODIES = {
  extensions: 'Invalid or unacceptable Sec-WebSocket-Extensions header',
  key: 'Missing or invalid Sec-WebSocket-Key header',
  method: 'Invalid HTTP method',
  path: 'Bad Request',
  subprotocol: 'Invalid Sec-WebSocket-Protocol header',
  unauthorized: 'Unauthorized',
  upgrade: 'Invalid Upgrade header',
  version: 'Missing or invalid Sec-WebSocket-Version header',
} as const

const STATUS_LINES: Record<keyof typeof BODIES, string> = {
  extensions: 'HTTP/1.1 400 Bad Request',
  key: 'HTTP/1.1 400 Bad Request',
  method: 'HTTP/1.1 405 Method Not Allowed',
  path: 'HTTP/1.1 400 Bad Request',
  subprotocol: 'HTTP/1.1 400 Bad Request',
  unauthorized: 'HTTP/1.1 401 Unauthorized',
  upgrade: 'HTTP/1.1 400 Bad Request',
  version: 'HTTP/1.1 400 Bad Request',
}

const EXTRA_HEADERS: Partial<Record<keyof typeof BODIES, string>> = {
  method: 'Allow: GET\r\n',
  unauthorized: 'WWW-Authenticate: Bearer realm="websocket"\r\n',
  version: 'Sec-WebSocket-Version: 13, 8\r\n',
}

function rejection(cause: keyof typeof BODIES): string {
  const extra = EXTRA_HEADERS[cause] ?? ''
  const body = BODIES[cause]
  return (
    `${STATUS_LINES[cause]}\r\nConnection: close\r\nContent-Type: text/html\r\n` +
    `Content-Length: ${body.length}\r\n${extra}\r\n${body}`
  )
}

/** The whole answer, once the connection has been closed behind it. */
async function refusal(site: TestServer, request: RequestOptions): Promise<string> {
  const peer = await site.raw()
  void peer.write(upgradeRequest(request))
  return peer.rest()
}

const good = (rest: RequestOptions = {}): RequestOptions => ({ ...withToken(tokenOf('ann')), ...rest })

describe('a handshake that is accepted', () => {
  it('is answered with exactly the headers of RFC 6455', async (test) => {
    const site = await TestServer.open(test)
    const { response } = await site.requestUpgrade(good())
    assert.equal(response.statusLine, 'HTTP/1.1 101 Switching Protocols')
    assert.deepEqual(response.headers, { upgrade: 'websocket', connection: 'Upgrade', 'sec-websocket-accept': ACCEPT })
    assert.equal(site.service.getConnectionCount('ann'), 1)
  })

  it('may ask for version 8, and write its protocol in any case', async (test) => {
    const site = await TestServer.open(test)
    for (const headers of [{ 'Sec-WebSocket-Version': '8' }, { Upgrade: 'WebSocket' }, { Upgrade: 'WEBSOCKET', Connection: 'keep-alive, Upgrade' }, { Upgrade: 'h2c, WebSocket' }]) {
      assert.equal((await site.requestUpgrade(good({ headers }))).response.status, 101, JSON.stringify(headers))
    }
  })

  it('is answered with the first subprotocol offered, whatever it is', async (test) => {
    const site = await TestServer.open(test)
    for (const [offer, answer] of [
      ['civic-engagement-v1', 'civic-engagement-v1'],
      ['one, two', 'one'],
      ['one,two,\tthree', 'one'],
      [['first', 'second'], 'first'],
    ] as const) {
      const request = good({ headers: { 'Sec-WebSocket-Protocol': offer as string | string[] } })
      const { peer, response } = await site.requestUpgrade(request)
      assert.equal(response.headers['sec-websocket-protocol'], answer, String(offer))
      const closed = site.event('disconnection')
      peer.destroy()
      await closed
    }
  })

  it('gives a client library the subprotocol it insists on', async (test) => {
    const site = await TestServer.open(test)
    const client = await site.connect('ann', { protocols: ['civic-engagement-v1', 'other'] })
    assert.equal(client.socket.protocol, 'civic-engagement-v1')
  })

  it('brings along frames sent in the same packet', async (test) => {
    const site = await TestServer.open(test)
    const peer = await site.raw()
    const subscribe = text({ type: 'subscribe', data: { bill_id: 7 } })
    await peer.write(Buffer.concat([Buffer.from(upgradeRequest(good())), frame(Opcode.ping, 'early'), subscribe]))
    assert.equal((await peer.response()).status, 101)
    assert.equal((await peer.frameOf(Opcode.pong)).payload.toString(), 'early')
    const batch = (await peer.frameOf(Opcode.text)).payload.toString()
    assert.match(batch, /"type":"subscribed"/)
    assert.deepEqual(site.service.getBillSubscribers(7), ['ann'])
  })

  it('brings along half a frame, and the other half later', async (test) => {
    const site = await TestServer.open(test)
    const peer = await site.raw()
    const ping = frame(Opcode.ping, 'in two pieces')
    await peer.write(Buffer.concat([Buffer.from(upgradeRequest(good())), ping.subarray(0, 5)]))
    assert.equal((await peer.response()).status, 101)
    await peer.write(ping.subarray(5))
    assert.equal((await peer.frameOf(Opcode.pong)).payload.toString(), 'in two pieces')
  })

  it('may be closed in the same packet', async (test) => {
    const site = await TestServer.open(test)
    const peer = await site.raw()
    await peer.write(Buffer.concat([Buffer.from(upgradeRequest(good())), closeFrame(4000, 'Heartbeat timeout')]))
    assert.equal((await peer.response()).status, 101)
    assert.deepEqual(await peer.close(), { code: 4000, reason: 'Heartbeat timeout' })
    await within(peer.ended, 'the end')
    assert.equal(site.service.getConnectionCount('ann'), 0)
  })

  it('may arrive byte by byte', async (test) => {
    const site = await TestServer.open(test)
    const peer = await site.raw()
    peer.socket.setNoDelay(true)
    for (const byte of Buffer.from(upgradeRequest(good()))) await peer.write(Uint8Array.of(byte))
    assert.equal((await peer.response()).status, 101)
  })

  it('works with the clients of other makers', async (test) => {
    const site = await TestServer.open(test)
    const makers = { undici: UndiciWebSocket, ...('WebSocket' in globalThis ? { global: globalThis.WebSocket } : {}) }
    for (const [user, Maker] of Object.entries(makers)) {
      const client = new (Maker as typeof UndiciWebSocket)(site.url(tokenOf(user)), ['civic-engagement-v1'])
      const greeting = new Promise<string>((resolve, reject) => {
        client.addEventListener('message', (event) => resolve(String(event.data)))
        client.addEventListener('error', () => reject(new Error(`${user} was not let in`)))
      })
      assert.equal(JSON.parse(await within(greeting, 'the greeting')).data.user_id, user)
      assert.equal(client.protocol, 'civic-engagement-v1')
      const closed = new Promise<number>((resolve) => client.addEventListener('close', (event) => resolve(event.code)))
      client.close(1000, 'Client disconnect')
      assert.equal(await within(closed, 'the end'), 1000)
    }
  })
})

describe('a handshake that is refused', () => {
  const table: Array<[name: string, cause: keyof typeof BODIES, request: () => RequestOptions]> = [
    ['no token', 'unauthorized', () => ({})],
    ['an empty token', 'unauthorized', () => ({ target: '/ws?token=' })],
    ['a token that is none', 'unauthorized', () => withToken('not.a.token')],
    ['a token signed with another key', 'unauthorized', () => withToken(tokenOf('ann', { key: 'another key' }))],
    ['a Host that makes no URL', 'unauthorized', () => good({ headers: { Host: 'a b' } })],
    ['a slash behind the path', 'path', () => good({ target: `/ws/?token=${tokenOf('ann')}` })],
    ['a path in another case', 'path', () => good({ target: `/WS?token=${tokenOf('ann')}` })],
    ['a path written with an escape', 'path', () => good({ target: `/%77s?token=${tokenOf('ann')}` })],
    ['a longer path', 'path', () => good({ target: `/ws/x?token=${tokenOf('ann')}` })],
    ['another path', 'path', () => good({ target: `/?token=${tokenOf('ann')}` })],
    ['another path without a token', 'path', () => ({ target: '/elsewhere' })],
    ['a target in absolute form', 'path', () => good({ target: `http://localhost/ws?token=${tokenOf('ann')}` })],
    ['the method POST', 'method', () => good({ method: 'POST' })],
    ['the method HEAD', 'method', () => good({ method: 'HEAD' })],
    ['no key', 'key', () => good({ headers: { 'Sec-WebSocket-Key': undefined } })],
    ['a short key', 'key', () => good({ headers: { 'Sec-WebSocket-Key': KEY.slice(1) } })],
    ['a key without padding', 'key', () => good({ headers: { 'Sec-WebSocket-Key': `${KEY.slice(0, 22)}AA` } })],
    ['a key that is not base64', 'key', () => good({ headers: { 'Sec-WebSocket-Key': `!${KEY.slice(1)}` } })],
    ['no version', 'version', () => good({ headers: { 'Sec-WebSocket-Version': undefined } })],
    ['version 7', 'version', () => good({ headers: { 'Sec-WebSocket-Version': '7' } })],
    ['version 14', 'version', () => good({ headers: { 'Sec-WebSocket-Version': '14' } })],
    ['version 13 as a fraction', 'version', () => good({ headers: { 'Sec-WebSocket-Version': '13.0' } })],
    ['a version in words', 'version', () => good({ headers: { 'Sec-WebSocket-Version': 'thirteen' } })],
    ['a subprotocol twice', 'subprotocol', () => good({ headers: { 'Sec-WebSocket-Protocol': 'a, b, a' } })],
    ['an empty subprotocol', 'subprotocol', () => good({ headers: { 'Sec-WebSocket-Protocol': 'a,,b' } })],
    ['a subprotocol of two words', 'subprotocol', () => good({ headers: { 'Sec-WebSocket-Protocol': 'a b' } })],
    ['a malformed extension header', 'extensions', () => good({ headers: { 'Sec-WebSocket-Extensions': 'permessage-deflate; =' } })],
    ['an unknown deflate parameter', 'extensions', () => good({ headers: { 'Sec-WebSocket-Extensions': 'permessage-deflate; speed' } })],
  ]
  for (const [name, cause, request] of table) {
    it(`for ${name}: ${STATUS_LINES[cause].slice(9)}, ${BODIES[cause]}`, async (test) => {
      const site = await TestServer.open(test)
      assert.equal(await refusal(site, request()), rejection(cause))
      assert.equal(site.service.getStats().totalConnections, 0)
    })
  }

  it('gets the first error in the order of the checks', async (test) => {
    const site = await TestServer.open(test, { lookupUser: (user) => user === 'ann' })
    const request = {
      method: 'PUT',
      target: '/wrong',
      headers: {
        'Sec-WebSocket-Key': 'short',
        'Sec-WebSocket-Version': '7',
        'Sec-WebSocket-Protocol': 'a,a',
        'Sec-WebSocket-Extensions': ';',
      } as Record<string, string>,
    }
    const repairs: Array<[cause: keyof typeof BODIES, repair: () => unknown]> = [
      ['method', () => (request.method = 'GET')],
      ['key', () => (request.headers['Sec-WebSocket-Key'] = KEY)],
      ['version', () => (request.headers['Sec-WebSocket-Version'] = '13')],
      ['path', () => (request.target = '/ws')],
      ['subprotocol', () => (request.headers['Sec-WebSocket-Protocol'] = 'a')],
      ['extensions', () => (request.headers['Sec-WebSocket-Extensions'] = 'permessage-deflate')],
      ['unauthorized', () => (request.target = `/ws?token=${tokenOf('bob')}`)],
      ['unauthorized', () => (request.target = `/ws?token=${tokenOf('ann')}`)],
    ]
    for (const [cause, repair] of repairs) {
      assert.equal(await refusal(site, request), rejection(cause))
      repair()
    }
    assert.equal((await site.requestUpgrade(request)).response.status, 101)
  })

  it('may have sent frames along: the answer arrives all the same', async (test) => {
    const site = await TestServer.open(test)
    const peer = await site.raw()
    await peer.write(Buffer.concat([Buffer.from(upgradeRequest()), frame(Opcode.text, 'x'.repeat(50_000))]))
    assert.equal(await peer.rest(), rejection('unauthorized'))
  })
})

describe('where the token is looked for', () => {
  const token = tokenOf('ann')
  const bad = tokenOf('ann', { key: 'another key' })
  const header = (value: string): RequestOptions => ({ headers: { Authorization: value } })
  const table: Array<[name: string, status: number, request: RequestOptions]> = [
    ['the query', 101, { target: `/ws?token=${token}` }],
    ['the query, behind other parameters', 101, { target: `/ws?a=1&b=&token=${token}&c` }],
    ['the query, escaped', 101, { target: `/ws?token=${token.replaceAll('.', '%2E')}` }],
    ['the query, its name escaped', 101, { target: `/ws?%74oken=${token}` }],
    ['the first of two parameters', 101, { target: `/ws?token=${token}&token=${bad}` }],
    ['not the second of two parameters', 401, { target: `/ws?token=${bad}&token=${token}` }],
    ['not a parameter in another case', 401, { target: `/ws?Token=${token}` }],
    ['the header', 101, header(`Bearer ${token}`)],
    ['the header without a prefix', 101, header(token)],
    ['the header with the prefix in the middle', 101, header(`${token.slice(0, 9)}Bearer ${token.slice(9)}`)],
    ['the header with the scheme in lower case', 101, header(`bearer ${token}`)],
    ['the header with the scheme in upper case and more blanks', 101, header(`BEARER \t  ${token}`)],
    ['not the header with the scheme and no blank', 401, header(`bearer${token}`)],
    ['not the header with another scheme', 401, header(`Basic ${token}`)],
    ['the header when the parameter is empty', 101, { target: '/ws?token=', ...header(`Bearer ${token}`) }],
    ['the query before the header', 101, { target: `/ws?token=${token}`, ...header(`Bearer ${bad}`) }],
    ['not the header when the query has a bad one', 401, { target: `/ws?token=${bad}`, ...header(`Bearer ${token}`) }],
  ]
  for (const [name, status, request] of table) {
    it(`${name}: ${status}`, async (test) => {
      const site = await TestServer.open(test)
      assert.equal((await site.requestUpgrade(request)).response.status, status)
    })
  }
})

describe('permessage-deflate', () => {
  const OURS = ['client_no_context_takeover', 'server_max_window_bits=10', 'server_no_context_takeover']
  const table: Array<[offer: string, answer: string[] | 400 | undefined]> = [
    ['x-webkit-deflate-frame', undefined],
    ['permessage-deflate', OURS],
    ['permessage-deflate; client_max_window_bits', OURS],
    ['permessage-deflate; client_max_window_bits=12', [...OURS, 'client_max_window_bits=12']],
    ['permessage-deflate; client_max_window_bits="11"', [...OURS, 'client_max_window_bits=11']],
    ['permessage-deflate; server_max_window_bits=15', OURS],
    ['permessage-deflate; server_max_window_bits=10', OURS],
    ['permessage-deflate; server_no_context_takeover; client_no_context_takeover', OURS],
    ['permessage-deflate; server_max_window_bits=9', 400],
    ['permessage-deflate; server_max_window_bits=8', 400],
    ['permessage-deflate; server_max_window_bits=9, permessage-deflate', OURS],
    ['x-unknown, permessage-deflate', OURS],
    ['permessage-deflate; client_max_window_bits=12, permessage-deflate; client_max_window_bits=9', [...OURS, 'client_max_window_bits=12']],
    ['permessage-deflate; client_max_window_bits=16', 400],
    ['permessage-deflate; client_max_window_bits=7', 400],
    ['permessage-deflate; server_max_window_bits', 400],
    ['permessage-deflate; client_no_context_takeover=1', 400],
    ['permessage-deflate; client_no_context_takeover; client_no_context_takeover', 400],
    ['permessage-deflate; speed=11', 400],
  ]
  for (const [offer, answer] of table) {
    it(`${offer} → ${answer === undefined ? 'not used' : answer === 400 ? 400 : answer.join('; ')}`, async (test) => {
      const site = await TestServer.open(test)
      const { response } = await site.requestUpgrade(good({ headers: { 'Sec-WebSocket-Extensions': offer } }))
      if (answer === 400) return assert.equal(response.statusLine, STATUS_LINES.extensions)
      assert.equal(response.status, 101)
      const [name, ...parameters] = response.headers['sec-websocket-extensions']?.split(/; */) ?? []
      assert.equal(name, answer && 'permessage-deflate')
      assert.deepEqual(parameters.sort(), [...(answer ?? [])].sort())
    })
  }

  it('is not used when it is off', async (test) => {
    const site = await TestServer.open(test, { compression: false })
    const { response } = await site.requestUpgrade(good({ headers: { 'Sec-WebSocket-Extensions': 'permessage-deflate' } }))
    assert.equal(response.status, 101)
    assert.equal(response.headers['sec-websocket-extensions'], undefined)
  })

  it('compresses what is large enough, each message on its own', async (test) => {
    const site = await TestServer.open(test)
    const plain = await site.rawConnection('ann')
    const deflated = await site.rawConnection('ann', { 'Sec-WebSocket-Extensions': 'permessage-deflate' })
    const library = await site.connect('ann', { perMessageDeflate: true })
    assert.match(library.socket.extensions, /permessage-deflate/)
    const filler = (size: number): string => 'ab'.repeat(size / 2)
    for (const [size, rsv] of [[400, 0], [2000, 4], [90_000, 4], [400, 0]] as const) {
      site.service.sendUserNotification('ann', { type: 'size', title: filler(size), message: '' })
      const isImmediate = (payload: Buffer, bits: number): boolean => bits === 4 || payload.includes('"notification"')
      for (const [peer, bits] of [[plain, 0], [deflated, rsv]] as const) {
        let found = await peer.frameOf(Opcode.text)
        while (!isImmediate(found.payload, found.rsv)) found = await peer.frameOf(Opcode.text)
        assert.equal(found.rsv, bits, `${size} bytes`)
        if (bits === 4) assert.ok(found.payload.length < size / 2, `${found.payload.length} for ${size} bytes`)
      }
      assert.equal((await library.take('notification'))['notification'].title.length, size)
    }
  })
})

describe('what is not ours', () => {
  it('HTTP stays with the application, before, during and after connections', async (test) => {
    const site = await TestServer.open(test)
    const get = async (path: string): Promise<string> => (await fetch(`http://127.0.0.1:${site.port}${path}`)).text()
    assert.equal(await get('/'), 'the application')
    const client = await site.connect('ann')
    assert.equal(await get('/ws'), 'the application', 'a plain request for our path is no upgrade')
    await client.close(1000)
    assert.equal(await get('/'), 'the application')
  })

  it('a foreign path is refused without another listener', async (test) => {
    const site = await TestServer.open(test)
    assert.equal(await refusal(site, good({ target: '/hot-reload' })), rejection('path'))
  })

  for (const order of ['before', 'after'] as const) {
    it(`a foreign path is left to a listener added ${order} us`, async (test) => {
      const http = createServer(application)
      const paths: string[] = []
      const add = (): void => {
        http.on('upgrade', (request, socket) => {
          if (request.url?.startsWith('/ws')) return
          paths.push(request.url ?? '')
          socket.end('HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\nours')
        })
      }
      if (order === 'before') add()
      const site = await TestServer.open(test, {}, http)
      if (order === 'after') add()
      const { peer, response } = await site.requestUpgrade({ target: '/hot-reload', headers: { Upgrade: 'other' } })
      assert.equal(response.headers['upgrade'], 'other')
      assert.equal(await peer.rest(), 'ours')
      assert.deepEqual(paths, ['/hot-reload'])
      assert.equal(await site.status(tokenOf('ann')), 101, 'our own path still works')
      assert.equal(await site.status(undefined), 401)
    })
  }

  it('a path of our own choice', async (test) => {
    const site = await TestServer.open(test, { path: '/live' })
    assert.equal((await site.requestUpgrade({ target: `/live?token=${tokenOf('ann')}` })).response.status, 101)
    assert.equal(await refusal(site, good()), rejection('path'))
  })
})

describe('origins', () => {
  const table: Array<[allowed: '*' | 'same-host' | string[], origin: string | undefined, status: number]> = [
    ['*', 'https://evil.example', 101],
    ['same-host', undefined, 101],
    ['same-host', 'http://bills.example', 101],
    ['same-host', 'http://bills.example.evil.example', 403],
    ['same-host', 'http://evilbills.example', 403],
    ['same-host', 'null', 403],
    [['https://app.example'], 'https://app.example', 101],
    [['https://app.example'], 'http://app.example', 403],
    [['https://app.example'], 'https://app.example.evil.example', 403],
    [['https://app.example'], undefined, 101],
  ]
  for (const [allowedOrigins, origin, status] of table) {
    it(`${JSON.stringify(allowedOrigins)} and ${origin ?? 'none'}: ${status}`, async (test) => {
      const site = await TestServer.open(test, { allowedOrigins })
      const request = good({ headers: { Host: 'bills.example', Origin: origin } })
      assert.equal((await site.requestUpgrade(request)).response.status, status)
    })
  }
})
