// Who gets in: tokens, keys, claims, the look-up of users, the number of connections, and tokens sent as a message.

import assert from 'node:assert/strict'
import { createHmac, generateKeyPairSync, sign, type KeyObject } from 'node:crypto'
import { createServer } from 'node:http'
import { after, before, describe, it } from 'node:test'
import { WebSocketService, type WebSocketServiceOptions } from 'carillon'
import jwt from 'jsonwebtoken'
import { Client } from './support/client.mjs'
import { upgradeRequest } from './support/raw.mjs'
import { TestServer, application, listen, options, withToken, type Scope } from './support/server.mjs'
import { SECRET, now, part, tokenOf } from './support/token.mjs'
import { eventually, within } from './support/waiting.mjs'

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const otherRsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const ed = generateKeyPairSync('ed25519')
const pem = ({ publicKey }: { publicKey: KeyObject }): string => publicKey.export({ type: 'spki', format: 'pem' }).toString()

/** For algorithms `jsonwebtoken` does not know. */
function signed(algorithm: string, key: KeyObject, claims: Record<string, unknown>): string {
  const message = `${part({ alg: algorithm, typ: 'JWT' })}.${part(claims)}`
  return `${message}.${sign(null, Buffer.from(message), key).toString('base64url')}`
}

describe('a token signed with the secret', () => {
  const hour = 3600
  const table: Array<[name: string, status: number, token: () => string]> = [
    ['HS256', 101, () => tokenOf('ann', { algorithm: 'HS256' })],
    ['HS384', 101, () => tokenOf('ann', { algorithm: 'HS384' })],
    ['HS512', 101, () => tokenOf('ann', { algorithm: 'HS512' })],
    ['no expiry', 101, () => jwt.sign({ user_id: 'ann' }, SECRET, { noTimestamp: true })],
    ['issued in the future', 101, () => tokenOf('ann', { claims: { iat: now() + hour } })],
    ['a number for a user', 101, () => tokenOf(42)],
    ['other claims', 101, () => tokenOf('ann', { claims: { iss: 'somebody', aud: ['a', 'b'], role: { admin: true } } })],
    ['expired', 401, () => tokenOf('ann', { claims: { exp: now() - 1 } })],
    ['expiring this second', 401, () => tokenOf('ann', { claims: { exp: now() } })],
    ['not valid yet', 401, () => tokenOf('ann', { claims: { nbf: now() + hour } })],
    ['no user', 401, () => jwt.sign({ email: 'ann@example.org' }, SECRET)],
    ['an empty user', 401, () => tokenOf('')],
    ['an object for a user', 401, () => jwt.sign({ user_id: { name: 'ann' } }, SECRET)],
    ['an expiry in words', 401, () => `${tokenPart('HS256', { user_id: 'ann', exp: 'tomorrow' })}`],
    ['another secret', 401, () => tokenOf('ann', { key: `${SECRET}x` })],
    ['the default secret of old', 401, () => tokenOf('ann', { key: 'fallback-secret' })],
    ['a changed payload', 401, () => tokenOf('ann').replace(/\.[^.]+\./, `.${part({ user_id: 'eve', exp: now() + hour })}.`)],
    ['no signature', 401, () => tokenOf('ann').replace(/[^.]+$/, '')],
    ['the algorithm none', 401, () => `${part({ alg: 'none', typ: 'JWT' })}.${part({ user_id: 'ann' })}.`],
    ['the algorithm nOnE', 401, () => `${part({ alg: 'nOnE' })}.${part({ user_id: 'ann' })}.${tokenOf('ann').split('.')[2]}`],
    ['an RSA key', 401, () => tokenOf('ann', { key: rsa.privateKey as never, algorithm: 'RS256' })],
    ['two parts', 401, () => tokenOf('ann').split('.').slice(0, 2).join('.')],
    ['15 kB of dots', 401, () => '.'.repeat(15_000)],
  ]
  for (const [name, status, token] of table) {
    it(`${name}: ${status}`, async (test) => {
      const site = await TestServer.open(test)
      assert.equal(await site.status(token()), status)
      assert.equal(site.service.getStats().totalConnections, status === 101 ? 1 : 0)
    })
  }

  it('names its user, whom the service knows by the decimal digits if it is a number', async (test) => {
    const site = await TestServer.open(test)
    assert.equal(await site.status(tokenOf(42)), 101)
    assert.deepEqual(site.service.getAllConnectedUsers(), ['42'])
    assert.equal(site.service.isUserConnected('42'), true)
  })

  it('must use one of the algorithms named', async (test) => {
    const site = await TestServer.open(test, { jwtAlgorithms: ['HS512'] })
    assert.equal(await site.status(tokenOf('ann', { algorithm: 'HS512' })), 101)
    assert.equal(await site.status(tokenOf('ann', { algorithm: 'HS256' })), 401)
  })

  it('may name its user under another claim, and must have the issuer and the audience asked for', async (test) => {
    const site = await TestServer.open(test, { jwtUserIdClaim: 'sub', jwtIssuer: 'bills', jwtAudience: 'live' })
    const status = (claims: Record<string, unknown>): Promise<number> => site.status(jwt.sign(claims, SECRET))
    assert.equal(await status({ sub: 'ann', iss: 'bills', aud: 'live' }), 101)
    assert.equal(await status({ sub: 'bob', iss: 'bills', aud: ['other', 'live'] }), 101)
    assert.equal(await status({ user_id: 'ann', iss: 'bills', aud: 'live' }), 401)
    assert.equal(await status({ sub: 'ann', iss: 'bills.example', aud: 'live' }), 401)
    assert.equal(await status({ sub: 'ann', aud: 'live' }), 401)
    assert.equal(await status({ sub: 'ann', iss: 'bills', aud: 'dead' }), 401)
    assert.equal(await status({ sub: 'ann', iss: 'bills' }), 401)
    assert.deepEqual(site.service.getAllConnectedUsers(), ['ann', 'bob'])
  })

  it('is not looked at again after the handshake', async (test) => {
    const site = await TestServer.open(test)
    const exp = now() + 1
    const client = await site.connect('ann', { token: tokenOf('ann', { claims: { exp } }) })
    await eventually(() => now() > exp, 'the end of the token')
    assert.equal(await site.status(tokenOf('ann', { claims: { exp } })), 401)
    await client.subscribe(1)
    assert.deepEqual(site.service.getUserSubscriptions('ann'), [1])
  })
})

function tokenPart(algorithm: jwt.Algorithm, claims: Record<string, unknown>): string {
  // `jsonwebtoken` checks claims given as an object, not those given as text.
  return jwt.sign(JSON.stringify(claims), SECRET, { algorithm, header: { alg: algorithm, typ: 'JWT' } })
}

describe('a claim with half a character', () => {
  it('is read as JavaScript reads it, and lets its user in', async (test) => {
    const seen: unknown[] = []
    const site = await TestServer.open(test, { lookupUser: (_user, claims) => seen.push(claims['name']) })
    const name = 'cut \ud83d'
    assert.match(JSON.stringify(name), /\\ud83d/, 'JavaScript escapes it')
    assert.equal(await site.status(tokenPart('HS256', { user_id: 'ann', name })), 101)
    assert.deepEqual(seen, ['cut \ufffd'])
    // Two users must not become one.
    assert.equal(await site.status(tokenPart('HS256', { user_id: 'ann\ud800' })), 401)
  })
})

describe('a token signed with a private key', () => {
  const claims = { user_id: 'ann', exp: now() + 3600 }
  const table: Array<[algorithm: string, publicKey: string, token: string]> = [
    ['RS256', pem(rsa), jwt.sign(claims, rsa.privateKey, { algorithm: 'RS256' })],
    ['RS512', pem(rsa), jwt.sign(claims, rsa.privateKey, { algorithm: 'RS512' })],
    ['PS256', pem(rsa), jwt.sign(claims, rsa.privateKey, { algorithm: 'PS256' })],
    ['ES256', pem(ec), jwt.sign(claims, ec.privateKey, { algorithm: 'ES256' })],
    ['EdDSA', pem(ed), signed('EdDSA', ed.privateKey, claims)],
  ]
  for (const [algorithm, jwtPublicKey, token] of table) {
    it(`is checked with the public one: ${algorithm}`, async (test) => {
      const site = await TestServer.open(test, { jwtPublicKey, jwtAlgorithms: [algorithm] })
      assert.equal(await site.status(token), 101)
      assert.equal(await site.status(token.replace(/.{8}$/, 'AAAAAAAA')), 401)
      assert.equal(await site.status(jwt.sign(claims, otherRsa.privateKey, { algorithm: 'RS256' })), 401)
      // Anyone who reads the public key could make these.
      assert.equal(await site.status(hmacWith(jwtPublicKey, claims)), 401)
      assert.equal(await site.status(hmacWith(jwtPublicKey.trim(), claims)), 401)
      assert.equal(await site.status(`${part({ alg: 'none' })}.${part(claims)}.`), 401)
      assert.equal(site.service.getStats().totalConnections, 1)
    })
  }

  const wrong: Array<[name: string, given: WebSocketServiceOptions]> = [
    ['without its algorithms', { jwtPublicKey: pem(rsa) }],
    ['with an algorithm for secrets', { jwtPublicKey: pem(rsa), jwtAlgorithms: ['RS256', 'HS256'] }],
    ['with an algorithm of other keys', { jwtPublicKey: pem(rsa), jwtAlgorithms: ['ES256'] }],
    ['with the algorithm none', { jwtPublicKey: pem(rsa), jwtAlgorithms: ['none'] }],
    ['that is none', { jwtPublicKey: 'a secret, perhaps', jwtAlgorithms: ['RS256'] }],
    ['beside a secret', { jwtPublicKey: pem(rsa), jwtAlgorithms: ['RS256'], jwtSecret: SECRET }],
  ]
  for (const [name, given] of wrong) {
    it(`needs a public key that is not given ${name}`, (test) => {
      const start = (): void => {
        const service = new WebSocketService(given)
        test.after(() => service.shutdown())
        service.initialize(createServer())
      }
      assert.throws(start, { code: 'ERR_INVALID_OPTION', name: 'TypeError' })
    })
  }

  it('is refused where a secret is expected, and so is a public key as a secret', (test) => {
    const start = (given: WebSocketServiceOptions) => (): void => {
      const service = new WebSocketService(given)
      test.after(() => service.shutdown())
      service.initialize(createServer())
    }
    assert.throws(start({ jwtSecret: SECRET, jwtAlgorithms: ['RS256'] }), { code: 'ERR_INVALID_OPTION' })
    assert.throws(start({ jwtSecret: pem(rsa) }), { code: 'ERR_INVALID_OPTION' })
  })
})

function hmacWith(key: string, claims: Record<string, unknown>): string {
  // `jsonwebtoken` refuses to sign with a PEM text, an attacker does not.
  const message = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`
  return `${message}.${createHmac('sha256', key).update(message).digest('base64url')}`
}

describe('JWT_SECRET', () => {
  let inherited: string | undefined
  before(() => (inherited = process.env['JWT_SECRET']))
  after(() => {
    if (inherited === undefined) delete process.env['JWT_SECRET']
    else process.env['JWT_SECRET'] = inherited
  })

  for (const missing of [undefined, '']) {
    it(`must be there when no key is given: ${missing === undefined ? 'unset' : 'empty'}`, () => {
      if (missing === undefined) delete process.env['JWT_SECRET']
      else process.env['JWT_SECRET'] = missing
      const service = new WebSocketService()
      const http = createServer()
      assert.throws(() => service.initialize(http), { code: 'ERR_NO_JWT_SECRET', name: 'Error' })
      assert.equal(service.state, 'stopped')
      assert.equal(http.listenerCount('upgrade'), 0)
    })
  }

  it('is read at every handshake', async (test) => {
    process.env['JWT_SECRET'] = 'the first secret'
    const service = new WebSocketService(options({ jwtSecret: undefined as never }))
    const http = createServer(application)
    service.initialize(http)
    const port = await listen(http)
    test.after(async () => {
      await service.shutdown()
      http.close()
      http.closeAllConnections()
    })
    const connect = (key: string): Promise<Client> => Client.open(`ws://127.0.0.1:${port}/ws?token=${tokenOf('ann', { key })}`)
    const early = await connect('the first secret')
    await assert.rejects(connect('the second secret'), /401/)
    process.env['JWT_SECRET'] = 'the second secret'
    await connect('the second secret')
    await assert.rejects(connect('the first secret'), /401/)
    await early.subscribe(1)
    assert.equal(service.getConnectionCount('ann'), 2)
  })
})

describe('lookupUser', () => {
  const admitted: Array<[name: string, status: number, lookup: NonNullable<WebSocketServiceOptions['lookupUser']>]> = [
    ['returns true', 101, () => true],
    ['returns a user', 101, () => ({ id: 1 })],
    ['resolves to a user', 101, async () => ({ id: 1 })],
    ['resolves later', 101, () => new Promise((resolve) => setImmediate(resolve, 'somebody'))],
    ['returns false', 401, () => false],
    ['returns undefined', 401, () => undefined],
    ['returns an empty text', 401, () => ''],
    ['resolves to null', 401, async () => null],
    ['throws', 401, () => { throw new Error('the database is down') }],
    ['throws something odd', 401, () => { throw Symbol('odd') }],
    ['rejects', 401, () => Promise.reject(new Error('the database is down'))],
    ['rejects with nothing', 401, () => Promise.reject(undefined)],
    ['rejects with something odd', 401, () => Promise.reject(Symbol('odd'))],
    ['never answers', 401, () => new Promise(() => {})],
    ['is a promise of its own making that throws', 401, () => ({ then() { throw new Error('odd') } })],
  ]
  for (const [name, status, lookup] of admitted) {
    it(`that ${name}: ${status}, and the place is free again`, async (test) => {
      let isFirst = true
      const site = await TestServer.open(test, {
        lookupTimeout: 200,
        runtime: { MAX_CONNECTIONS_PER_USER: 1 },
        // A failure is tried again: it has to last.
        lookupUser: (...given) => (isFirst ? lookup(...given) : true),
      })
      const { peer, response } = await site.requestUpgrade(withToken(tokenOf('ann')))
      isFirst = false
      assert.equal(response.status, status)
      if (status === 401) {
        assert.equal(await peer.rest(), 'Unauthorized')
        assert.equal(await site.status(tokenOf('ann')), 101)
      }
      assert.equal(site.service.getConnectionCount('ann'), 1)
      assert.equal(await site.status(tokenOf('ann')), 401, 'there is one place')
    })
  }

  it('receives the user and the claims, and only those of valid tokens', async (test) => {
    const calls: unknown[] = []
    const site = await TestServer.open(test, { lookupUser: (...given) => calls.push(given) })
    assert.equal(await site.status(tokenOf('eve', { key: 'another key' })), 401)
    assert.equal(await site.status(undefined), 401)
    const token = tokenOf('ann', { claims: { role: 'clerk', nested: { list: [1, null, 'ü'] } } })
    assert.equal(await site.status(token), 101)
    assert.deepEqual(calls, [['ann', jwt.decode(token)]])
  })

  it('may answer too late, or twice, without harm', async (test) => {
    const answers: Array<(value: unknown) => void> = []
    const site = await TestServer.open(test, {
      lookupTimeout: 50,
      lookupUser: () => new Promise((resolve) => answers.push(resolve)),
    })
    assert.equal(await site.status(tokenOf('ann')), 401)
    answers[0]?.(true)
    answers[0]?.(true)
    assert.equal(await site.status(tokenOf('ann')), 401)
    assert.equal(site.service.getStats().totalConnections, 0)
  })

  it('may find the user when the peer has gone', async (test) => {
    const lookups: Array<(value: unknown) => void> = []
    let asked = (): void => {}
    const site = await TestServer.open(test, {
      runtime: { MAX_CONNECTIONS_PER_USER: 1 },
      lookupUser: () =>
        new Promise((resolve) => {
          lookups.push(resolve)
          asked()
        }),
    })
    for (const leave of ['destroy', 'reset'] as const) {
      const peer = await site.raw()
      const wasAsked = new Promise<void>((resolve) => (asked = resolve))
      await peer.write(upgradeRequest(withToken(tokenOf('ann'))))
      await within(wasAsked, 'a look-up')
      peer[leave]()
      lookups.pop()?.(true)
      asked = () => lookups.pop()?.(true)
      // The place is free as soon as the service has found out.
      let status = 401
      while (status !== 101) {
        const attempt = await site.requestUpgrade(withToken(tokenOf('ann')))
        status = attempt.response.status
        if (status !== 101) continue
        assert.equal(site.service.getConnectionCount('ann'), 1)
        const gone = site.event('disconnection')
        attempt.peer.destroy()
        await gone
      }
    }
    assert.equal(site.service.getStats().activeConnections, 0)
  })
})

describe('the number of connections per user', () => {
  it('is five; the sixth is refused, and closing one makes room', async (test) => {
    const site = await TestServer.open(test)
    const clients = await Promise.all(Array.from({ length: 5 }, () => site.connect('ann')))
    assert.equal(await site.status(tokenOf('ann')), 401)
    assert.equal(await site.status(tokenOf('bob')), 101, 'each user has five')
    assert.equal(site.service.getConnectionCount('ann'), 5)
    await clients[0]?.close(1000)
    assert.equal(site.service.getConnectionCount('ann'), 4)
    assert.equal(await site.status(tokenOf('ann')), 101)
    assert.equal(await site.status(tokenOf('ann')), 401)
  })

  it('is not passed by handshakes whose look-ups settle together', async (test) => {
    const count = 20
    const pending: Array<(value: unknown) => void> = []
    let settled = 0
    const release = (): void => {
      if (pending.length + settled === count) pending.forEach((resolve) => resolve(true))
    }
    const site = await TestServer.open(test, {
      lookupUser: () =>
        new Promise((resolve) => {
          pending.push(resolve)
          release()
        }),
    })
    const statuses = await Promise.all(
      Array.from({ length: count }, async () => {
        const status = await site.status(tokenOf('ann'))
        settled++
        release()
        return status
      }),
    )
    assert.equal(statuses.filter((status) => status === 101).length, 5)
    assert.equal(statuses.filter((status) => status === 401).length, 15)
    assert.equal(site.service.getConnectionCount('ann'), 5)
  })

  it('is not passed by handshakes that arrive together', async (test) => {
    const site = await TestServer.open(test, { threads: 4 })
    const statuses = await Promise.all(Array.from({ length: 40 }, () => site.status(tokenOf('ann'))))
    assert.equal(statuses.filter((status) => status === 101).length, 5)
    assert.equal(site.service.getConnectionCount('ann'), 5)
  })
})

describe('an `auth` message', () => {
  const open = async (test: Scope, given: WebSocketServiceOptions = {}) => {
    const site = await TestServer.open(test, { authTimeout: 30_000, ...given })
    const client = await Client.open(`ws://127.0.0.1:${site.port}/ws`)
    test.after(() => client.socket.terminate())
    return { site, client }
  }

  it('lets a connection in that came without a token', async (test) => {
    const { site, client } = await open(test)
    assert.equal(site.service.getStats().uniqueUsers, 0)
    assert.deepEqual(site.service.getAllConnectedUsers(), [])
    client.send('auth', { token: tokenOf('ann') }, { messageId: 'a' })
    const greeting = await client.take('connected')
    assert.equal(greeting['data'].user_id, 'ann')
    assert.match(greeting['data'].connectionId, /^ann-\d+$/)
    assert.deepEqual(client.messages.map(({ type }) => type), ['ack', 'connected'])
    await client.subscribe(3)
    assert.deepEqual(site.service.getBillSubscribers(3), ['ann'])
    assert.equal(site.service.getConnectionCount('ann'), 1)
  })

  it('that does not come in time ends the connection', async (test) => {
    const { site, client } = await open(test, { authTimeout: 50 })
    assert.deepEqual(await client.whenClosed(), { code: 1008, reason: 'Authentication required' })
    assert.deepEqual(client.messages, [])
    assert.equal(site.service.getStats().uniqueUsers, 0)
  })

  it('must come first: everything else is answered with an error', async (test) => {
    const { site, client } = await open(test)
    for (const type of ['subscribe', 'batch_subscribe', 'unsubscribe', 'get_preferences', 'update_preferences', 'nonsense']) {
      client.send(type, { bill_id: 1, bill_ids: [1], preferences: {} })
      assert.deepEqual(await client.take('error'), { type: 'error', message: 'Authentication required' }, type)
    }
    assert.deepEqual(site.service.getBillSubscribers(1), [])
    site.service.broadcastToAll({ type: 'announcement', data: {} })
    client.send('auth', { token: tokenOf('ann') })
    await client.take('connected')
    await site.settled('ann', client)
    assert.deepEqual(client.received('announcement'), [], 'what is sent to all is sent to users')
  })

  it('with a bad token is answered with an error, and may be tried again', async (test) => {
    const bad = [tokenOf('ann', { key: 'another key' }), tokenOf('ann', { claims: { exp: now() - 1 } }), tokenOf('eve'), '', 'x', undefined, 7]
    for (const token of bad) {
      const { site, client } = await open(test, { lookupUser: (user) => user !== 'eve' })
      // The third one would end the connection.
      for (const _ of [1, 2]) {
        client.send('auth', { token })
        assert.deepEqual(await client.take('error'), { type: 'error', message: 'Authentication failed' })
      }
      assert.equal(site.service.getStats().uniqueUsers, 0)
      client.send('auth', { token: tokenOf('ann') })
      await client.take('connected')
    }
  })

  it('is subject to the number of connections', async (test) => {
    const { site, client } = await open(test, { runtime: { MAX_CONNECTIONS_PER_USER: 1 } })
    const first = await site.connect('ann')
    client.send('auth', { token: tokenOf('ann') })
    assert.equal((await client.take('error'))['message'], 'Authentication failed')
    await first.close(1000)
    client.send('auth', { token: tokenOf('ann') })
    await client.take('connected')
    assert.equal(site.service.getConnectionCount('ann'), 1)
  })

  it('does not excuse a bad token in the request', async (test) => {
    const { site } = await open(test)
    assert.equal(await site.status(tokenOf('ann', { key: 'another key' })), 401)
  })

  it('that is being looked up when the peer goes leaves nothing behind', async (test) => {
    const asked: Array<(value: unknown) => void> = []
    let called = (): void => {}
    const wasCalled = new Promise<void>((resolve) => (called = resolve))
    const { site, client } = await open(test, {
      runtime: { MAX_CONNECTIONS_PER_USER: 1 },
      lookupUser: () =>
        asked.length > 0
          ? true
          : new Promise((resolve) => {
              asked.push(resolve)
              called()
            }),
    })
    client.send('auth', { token: tokenOf('ann') })
    await within(wasCalled, 'a look-up')
    await client.close(1000)
    asked[0]?.(true)
    let status = 401
    while (status !== 101) status = await site.status(tokenOf('ann'))
    assert.equal(site.service.getConnectionCount('ann'), 1)
  })

  it('renews the token of a connection that is in', async (test) => {
    const site = await TestServer.open(test)
    const client = await site.connect('ann')
    const exp = now() + 7200
    client.send('auth', { token: tokenOf('ann', { claims: { exp } }) }, { messageId: 1 })
    assert.deepEqual(await client.take('auth_success'), {
      type: 'auth_success',
      data: { user_id: 'ann', expiresAt: new Date(exp * 1000).toISOString() },
    })
    client.send('auth', { token: jwt.sign({ user_id: 'ann' }, SECRET) })
    assert.deepEqual((await client.take('auth_success'))['data'], { user_id: 'ann', expiresAt: null })
    assert.equal(client.received('connected').length, 1)
    assert.equal(site.service.getConnectionCount('ann'), 1)
  })

  it('that renews must be valid and of the same user; otherwise the connection stays as it is', async (test) => {
    const site = await TestServer.open(test)
    for (const token of [tokenOf('bob'), tokenOf('ann', { key: 'another key' }), tokenOf('ann', { claims: { exp: now() - 1 } }), undefined]) {
      const client = await site.connect('ann')
      client.send('auth', { token })
      assert.deepEqual(await client.take('error'), { type: 'error', message: 'Authentication failed' })
      await client.subscribe(9)
      assert.deepEqual(site.service.getBillSubscribers(9), ['ann'])
      assert.deepEqual(site.service.getAllConnectedUsers(), ['ann'])
    }
  })
})
