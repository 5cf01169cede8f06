// Every program in the README: compiled under strict settings, and run. A block that is not named here fails the first test.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import WebSocket from 'ws'
import { blocks } from './support/markdown.mjs'
import { SECRET, tokenOf } from './support/token.mjs'
import { Program, ROOT } from './support/tools.mjs'

const execute = promisify(execFile)
const SIGNALS = process.platform === 'win32' ? [] : (['SIGTERM', 'SIGINT'] as const)
const env = { JWT_SECRET: SECRET, PORT: '0' }

/** By heading: the file name, what the prose around a fragment supposes, and what a test has to change or to see. */
const PROGRAMS: Record<string, { name: string; before?: string; after?: string; change?: [string, string] }> = {
  'Quick start': { name: 'quick-start' },
  'Migration from the TypeScript service': {
    name: 'migration',
    before: `import { createServer } from 'node:http'
      import { webSocketService } from 'carillon'
      const users = { findById: async (id: string) => (id === 'ann' ? { id } : null) }`,
    after: `const server = createServer()
      webSocketService.initialize(server)
      server.listen(0, () => console.log('listening on', server.address()))
      process.once('SIGTERM', () => void webSocketService.shutdown().then(() => server.close()))`,
  },
  'An own port': { name: 'own-port', change: ['port: 8443', 'port: 0'] },
  Monitoring: {
    name: 'monitoring',
    // The port is fixed in the README; the server is not named there.
    change: [`.listen(9464, '127.0.0.1')`, `.listen(0, '127.0.0.1', function (this: import('node:http').Server) { console.log('listening on', this.address()) })`],
  },
  Deployment: {
    name: 'probes',
    before: `import express from 'express'
      import { webSocketService } from 'carillon'
      const app = express()`,
    after: `const server = app.listen(0, () => console.log('listening on', server.address()))
      webSocketService.initialize(server)
      process.once('SIGTERM', () => void webSocketService.shutdown().then(() => server.close()))`,
  },
}

describe('the programs of the README', { timeout: 240_000 }, () => {
  let folder: string
  const found = blocks(readFileSync(join(ROOT, 'README.md'), 'utf8')).filter(({ info }) => /^(js|ts|mjs|mts)\b/.test(info))

  before(() => {
    folder = mkdtempSync(join(ROOT, 'target/readme-'))
    mkdirSync(join(folder, 'node_modules'))
    symlinkSync(ROOT, join(folder, 'node_modules/carillon'), 'junction')
    for (const { heading, text } of found) {
      const program = PROGRAMS[heading]
      if (!program) continue
      const [from, to] = program.change ?? ['', '']
      assert.ok(text.includes(from), `"${from}" is no longer there`)
      writeFileSync(join(folder, `${program.name}.mts`), [program.before, text.replace(from, () => to), program.after].filter(Boolean).join('\n'))
    }
    for (const name of ['cert.pem', 'key.pem']) copyFileSync(join(ROOT, '__test__/support/tls', name), join(folder, name))
  })

  after(() => rmSync(folder, { recursive: true, force: true }))

  it('are all known to this test', () => {
    assert.deepEqual(found.map(({ heading }) => heading).sort(), Object.keys(PROGRAMS).sort())
  })

  it('compile under strict settings', async () => {
    const compilerOptions = {
      module: 'nodenext', target: 'es2023', strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, types: ['node'],
    }
    const files = Object.values(PROGRAMS).map(({ name }) => `${name}.mts`)
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }))
    const result = await execute(process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', '.', '--pretty', 'false'], { cwd: folder })
      .then(({ stdout }) => stdout, ({ stdout }: { stdout: string }) => stdout)
    assert.equal(result, '')
  })

  for (const signal of SIGNALS) {
    it(`quick start: delivers, and tells its clients before it ends on ${signal}`, async () => {
      const program = await start('quick-start')
      const client = new WebSocket(`ws://127.0.0.1:${program.port}/ws?token=${tokenOf('ann')}`)
      await endsInOrder(program, client, signal, () => client.send(JSON.stringify({ type: 'subscribe', data: { bill_id: 42 } })), '"status":"passed"')
    })

    it(`own port: serves TLS, and tells its clients before it ends on ${signal}`, async () => {
      const program = await start('own-port')
      const client = new WebSocket(`wss://127.0.0.1:${program.port}/ws?token=${tokenOf('ann')}`, { rejectUnauthorized: false })
      await endsInOrder(program, client, signal, () => {}, '"type":"connected"')
    })
  }

  it('migration: asks the application for its users', async () => {
    const program = await start('migration')
    try {
      assert.equal(await handshake(program.port, 'ann'), 101)
      assert.equal(await handshake(program.port, 'bob'), 401)
    } finally {
      assert.equal(await program.stop(), 0)
    }
  })

  it('monitoring: answers with metrics', async () => {
    const program = await start('monitoring')
    const response = await fetch(`http://127.0.0.1:${program.port}/`)
    assert.equal(response.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8')
    assert.match(await response.text(), /^carillon_connections 0$/m)
    await program.stop()
  })

  it('probes: say live and ready', async () => {
    const program = await start('probes')
    try {
      const get = (path: string): Promise<Response> => fetch(`http://127.0.0.1:${program.port}${path}`, { headers: { connection: 'close' } })
      assert.equal(await (await get('/live')).text(), 'ok')
      const ready = await get('/ready')
      assert.deepEqual([ready.status, Object.keys((await ready.json()) as object)], [200, ['status', 'warnings']])
    } finally {
      assert.equal(await program.stop(), 0)
    }
  })

  function start(name: string): Promise<Program> {
    return Program.start(`${name}.mjs`, { cwd: folder, env })
  }
})

/** Sends when open, waits for a message with this text, ends the program, and expects a proper good-bye. */
async function endsInOrder(program: Program, client: WebSocket, signal: NodeJS.Signals, send: () => void, text: string): Promise<void> {
  const received: string[] = []
  client.on('message', (data) => received.push(String(data)))
  client.on('open', send)
  const closed = once(client, 'close', { signal: AbortSignal.timeout(60_000) }) as Promise<[number, Buffer]>
  while (!received.some((message) => message.includes(text))) await once(client, 'message', { signal: AbortSignal.timeout(30_000) })
  assert.equal(await program.stop(signal), 0)
  const [code, reason] = await closed
  assert.deepEqual([code, String(reason)], [1001, 'Server shutdown'])
  assert.ok(received.some((message) => message.includes('"type":"server_shutdown"')), received.join('\n'))
}

async function handshake(port: number, user: string): Promise<number> {
  const client = new WebSocket(`ws://127.0.0.1:${port}/ws?token=${tokenOf(user)}`)
  return new Promise((resolve, reject) => {
    client.on('open', () => client.terminate())
    client.on('upgrade', () => resolve(101))
    client.on('unexpected-response', (_request, response) => resolve(response.statusCode ?? 0))
    client.on('error', reject)
  })
}
