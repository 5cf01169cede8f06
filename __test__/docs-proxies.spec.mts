// The configurations of proxies in docs/deployment.md: the real proxy is started with each, and a client comes through it.

import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { Client } from './support/client.mjs'
import { examples } from './support/examples.mjs'
import { TestServer } from './support/server.mjs'
import { tokenOf } from './support/token.mjs'
import { MANDATORY, ROOT } from './support/tools.mjs'
import { within } from './support/waiting.mjs'

const HEARTBEAT_SECONDS = 30
const blocks = examples('docs/deployment.md')

interface Proxy {
  /** The whole configuration around what the page shows. */
  configuration(shown: string, port: number, folder: string): string
  command(file: string, folder: string): [program: string, args: string[]]
  version: string
  /** Idle time-outs of an upgraded connection that the page sets, in seconds. */
  timeouts: RegExp
}

const PROXIES: Record<string, Proxy> = {
  nginx: {
    configuration: (shown, port, folder) => `
      daemon off; worker_processes 1; error_log stderr; pid ${folder}/nginx.pid;
      events { worker_connections 64; }
      http {
        access_log off; ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder}/${name};`).join(' ')}
        server { listen 127.0.0.1:${port}; ${shown} }
      }`,
    command: (file, folder) => ['nginx', ['-p', folder, '-c', file]],
    version: '-v',
    timeouts: /proxy_read_timeout (\d+)s/,
  },
  haproxy: {
    configuration: (shown, port) => `${shown.replace('bind :80', `bind 127.0.0.1:${port}`)}\n`,
    command: (file) => ['haproxy', ['-db', '-f', file]],
    version: '-v',
    timeouts: /timeout tunnel (\d+)s/,
  },
  caddy: {
    configuration: (shown, port) => `{\n  admin off\n  auto_https off\n}\n${shown.replace('example.org', `http://127.0.0.1:${port}`)}\n`,
    command: (file) => ['caddy', ['run', '--adapter', 'caddyfile', '--config', file]],
    version: 'version',
    // It has none.
    timeouts: /reverse_proxy/,
  },
}

describe('behind a proxy', { timeout: 120_000 }, () => {
  for (const [name, proxy] of Object.entries(PROXIES)) {
    it(`${name} passes connections on, with the address of the client`, async (test) => {
      if (!isInstalled(name, proxy, test)) return
      const shown = blocks.find(({ language }) => language === name)?.text
      assert.ok(shown, `docs/deployment.md has a configuration of ${name}`)
      const [, seconds] = proxy.timeouts.exec(shown) ?? assert.fail('no time-out was found')
      if (seconds !== undefined) assert.ok(Number(seconds) > HEARTBEAT_SECONDS, `${seconds} s`)
      const site = await TestServer.open(test, { trustProxy: 1 })
      const port = await start(test, proxy, shown.replaceAll('127.0.0.1:3000', `127.0.0.1:${site.port}`))
      // The proxy and its clients have different addresses.
      const connected = site.event('connection')
      const client = await Client.open(`ws://127.0.0.1:${port}/ws?token=${tokenOf('ann')}`, [], { localAddress: '127.0.0.7' })
      assert.equal((await connected).remoteAddress, '127.0.0.7')
      await client.subscribe(42)
      site.service.broadcastBillUpdate(42, { type: 'status_change', data: { status: 'passed' }, timestamp: new Date() })
      assert.equal((await client.take('bill_update'))['update'].data.status, 'passed')
      await site.service.shutdown()
      assert.deepEqual(await client.whenClosed(), { code: 1001, reason: 'Server shutdown' })
    })
  }
})

function isInstalled(name: string, { version }: Proxy, test: TestContext): boolean {
  if (process.platform === 'linux' && spawnSync(name, [version]).status === 0) return true
  if (MANDATORY && process.platform === 'linux') assert.fail(`${name} is not installed`)
  test.skip(`${name} is not installed`)
  return false
}

/** Resolves with the port of the proxy when it accepts connections. */
async function start(test: TestContext, proxy: Proxy, shown: string): Promise<number> {
  mkdirSync(join(ROOT, 'target'), { recursive: true })
  const folder = mkdtempSync(join(ROOT, 'target/proxy-'))
  const port = await freePort()
  const file = join(folder, 'configuration')
  writeFileSync(file, proxy.configuration(shown, port, folder))
  const [command, args] = proxy.command(file, folder)
  const child = spawn(command, args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, HOME: folder } })
  const said: Buffer[] = []
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => said.push(chunk))
  const ended = once(child, 'close')
  test.after(async () => {
    child.kill('SIGTERM')
    await within(ended, 'the end of the proxy')
    rmSync(folder, { recursive: true, force: true })
  })
  const deadline = performance.now() + 20_000
  while (!(await answers(port))) {
    assert.equal(child.exitCode, null, String(Buffer.concat(said)))
    assert.ok(performance.now() < deadline, `the proxy does not listen: ${String(Buffer.concat(said))}`)
  }
  return port
}

async function answers(port: number): Promise<boolean> {
  return fetch(`http://127.0.0.1:${port}/`, { headers: { connection: 'close' } }).then((response) => response.text().then(() => true), () => false)
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
