// What is taken for a secret, and what is not: a public key in any wrapping, and secrets that are too short.

import assert from 'node:assert/strict'
import { createPublicKey, generateKeyPairSync } from 'node:crypto'
import { createServer } from 'node:http'
import { after, before, describe, it } from 'node:test'
import { WebSocketService, type WebSocketServiceOptions } from 'carillon'
import { Log } from './support/log.mjs'
import { options, type Scope } from './support/server.mjs'
import { CERTIFICATE } from './support/tls.mjs'

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const ed = generateKeyPairSync('ed25519')

const pem = rsa.publicKey.export({ type: 'spki', format: 'pem' }).toString()
const der = ec.publicKey.export({ type: 'spki', format: 'der' })
const jwk = ed.publicKey.export({ format: 'jwk' })

function start(test: Scope, given: WebSocketServiceOptions): void {
  const service = new WebSocketService(given)
  test.after(() => service.shutdown())
  service.initialize(createServer())
}

const keys: Array<[name: string, text: string]> = [
  ['in PEM', pem],
  ['in PEM of PKCS#1', rsa.publicKey.export({ type: 'pkcs1', format: 'pem' }).toString()],
  ['in PEM behind a byte order mark', `\ufeff${pem}`],
  ['in PEM behind a character of no width', `\u200b${pem}`],
  ['in PEM with a character of no width inside', pem.replace('BEGIN', 'BEG\u200bIN')],
  ['in PEM behind a comment', `# the issuer's key\n${pem}`],
  ['in PEM behind "Bag Attributes"', `Bag Attributes\n    friendlyName: issuer\nKey Attributes: <No Attributes>\n${pem}`],
  ['in PEM within quotes', JSON.stringify(pem)],
  ['in PEM behind a lone quote', `"${pem}`],
  ['in PEM with its line ends escaped', pem.replaceAll('\n', '\\n')],
  ['in PEM without line ends', pem.replaceAll('\n', '')],
  ['in PEM and then base64', Buffer.from(pem).toString('base64')],
  ['of a certificate', String(CERTIFICATE.cert)],
  ['as a line of OpenSSH', 'ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC7 ann@example.org'],
  ['as a line of OpenSSH, EC', 'ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTY='],
  ['as a line of OpenSSH, Ed25519', 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl'],
  ['as a JSON Web Key', JSON.stringify(jwk)],
  ['as a set of JSON Web Keys', JSON.stringify({ keys: [ec.publicKey.export({ format: 'jwk' })] }, null, 2)],
  ['in DER and then base64', der.toString('base64')],
  ['in DER and then base64 of URLs', der.toString('base64url')],
  ['in DER and then hexadecimal digits', der.toString('hex')],
]

describe('a public key is no secret', () => {
  for (const [name, jwtSecret] of keys) {
    it(name, (test) => {
      assert.throws(() => start(test, { jwtSecret }), { name: 'TypeError', code: 'ERR_INVALID_OPTION', message: /^jwtSecret .*jwtPublicKey/ })
    })
  }

  it('is none from the environment either', (test) => {
    const inherited = process.env['JWT_SECRET']
    process.env['JWT_SECRET'] = `\ufeff${pem}`
    try {
      assert.throws(() => start(test, {}), { code: 'ERR_INVALID_OPTION', message: /JWT_SECRET/ })
    } finally {
      if (inherited === undefined) delete process.env['JWT_SECRET']
      else process.env['JWT_SECRET'] = inherited
    }
  })

  it('is taken where it belongs', (test) => {
    start(test, { jwtPublicKey: pem, jwtAlgorithms: ['RS256'] })
    start(test, { jwtPublicKey: createPublicKey(String(CERTIFICATE.cert)).export({ type: 'spki', format: 'pem' }).toString(), jwtAlgorithms: ['ES256'] })
  })
})

describe('a secret shorter than the hash', () => {
  const warnings = (log: Log): number => log.lines.filter(({ level, message }) => level === 'warn' && /shorter than/.test(message)).length

  for (const [length, jwtAlgorithms, expected] of [
    [31, undefined, 1],
    [32, undefined, 0],
    [47, ['HS256', 'HS384'], 1],
    [48, ['HS384'], 0],
    [63, ['HS512'], 1],
    [64, ['HS512'], 0],
  ] as const) {
    it(`${length} bytes with ${jwtAlgorithms ?? 'the usual algorithms'}: ${expected} warnings`, async () => {
      const log = new Log()
      const service = new WebSocketService(
        options({ jwtSecret: 's'.repeat(length), ...(jwtAlgorithms && { jwtAlgorithms: [...jwtAlgorithms] }), logger: log.logger }),
      )
      service.initialize(createServer())
      await service.listen({ port: 0, host: '127.0.0.1' })
      await service.shutdown()
      await log.take('info', /service stopped/)
      assert.equal(warnings(log), expected)
      assert.ok(!log.lines.some((line) => JSON.stringify(line).includes('sssss')), 'the secret is in the log')
    })
  }

  describe('from the environment', () => {
    let inherited: string | undefined
    before(() => (inherited = process.env['JWT_SECRET']))
    after(() => {
      if (inherited === undefined) delete process.env['JWT_SECRET']
      else process.env['JWT_SECRET'] = inherited
    })

    it('is reported as well', async () => {
      process.env['JWT_SECRET'] = 'short'
      const log = new Log()
      const service = new WebSocketService(options({ jwtSecret: undefined as never, logger: log.logger }))
      service.initialize(createServer())
      assert.deepEqual((await log.take('warn', /shorter than/)).context, { bytes: 5, needed: 32 })
      await service.shutdown()
    })
  })
})
