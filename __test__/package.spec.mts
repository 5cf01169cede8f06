// The package as npm would deliver it: packed, installed into an empty folder beside the package of this platform's
// binary, and then used as the README tells.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import jwt from 'jsonwebtoken'
import WebSocket from 'ws'
import { ADDON, Program, ROOT, TRIPLE, npm } from './support/tools.mjs'

const JWT_SECRET = 'a secret of this run alone'
const execute = promisify(execFile)

describe('the packed package', { timeout: 180_000 }, () => {
  let folder: string
  let contents: string[]

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'carillon-package-'))
    const root = await pack(ROOT)
    contents = root.files
    const binary = await packBinary()
    writeFileSync(join(folder, 'package.json'), '{ "name": "empty", "private": true }')
    await npm(['install', '--offline', join(folder, root.filename), join(folder, binary.filename)], folder)
    // From here on the installed binary is the one under test.
    delete process.env['NAPI_RS_NATIVE_LIBRARY_PATH']
  })

  after(() => rmSync(folder, { recursive: true, force: true }))

  it('holds what is on the whitelist and nothing else', () => {
    const allowed = ['CHANGELOG.md', 'LICENSE', 'README.md', 'index.d.ts', 'index.js', 'package.json', 'platform.js']
    assert.deepEqual(contents.filter((path) => !allowed.includes(path) && !/^docs\/[a-z./-]+\.md$/.test(path)), [])
    assert.ok(contents.includes('docs/client.md'))
    for (const path of allowed.slice(1)) assert.ok(contents.includes(path), `${path} is missing`)
  })

  it('installs nothing besides itself and its binary', () => {
    const installed = readdirSync(join(folder, 'node_modules')).filter((name) => !name.startsWith('.'))
    assert.equal(installed.length, 2)
    assert.ok(installed.every((name) => /^carillon(-[a-z0-9-]+)?$/.test(name)), installed.join(', '))
  })

  it('can be required', async () => {
    const names = await evaluate('use.cjs', `console.log(JSON.stringify(Object.keys(require('carillon'))))`)
    for (const name of ['WebSocketService', 'webSocketService', 'BASE_CONFIG']) assert.ok(names.includes(name), name)
  })

  it('can be imported by name', async () => {
    const kinds = await evaluate(
      'use.mjs',
      `import { WebSocketService, webSocketService, BASE_CONFIG } from 'carillon'
       console.log(JSON.stringify([typeof WebSocketService, webSocketService instanceof WebSocketService, typeof BASE_CONFIG]))`,
    )
    assert.deepEqual(kinds, ['function', true, 'object'])
  })

  it('brings its types, for import and for require', async () => {
    writeFileSync(join(folder, 'esm.mts'), `import { webSocketService } from 'carillon'\nexport const n: number = webSocketService.getStats().uptime\n`)
    writeFileSync(join(folder, 'cjs.cts'), `import carillon = require('carillon')\nexport const s = new carillon.WebSocketService({ path: '/live' })\n`)
    const types = ['--types', 'node', '--typeRoots', join(ROOT, 'node_modules/@types')]
    const tsc = join(ROOT, 'node_modules/typescript/bin/tsc')
    await execute(process.execPath, [tsc, '--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2023', ...types, 'esm.mts', 'cjs.cts'], { cwd: folder })
      .catch(({ stdout }: { stdout: string }) => assert.fail(stdout))
  })

  it('serves a client when used as the README tells', async () => {
    writeFileSync(join(folder, 'server.mjs'), quickStart())
    // The only other package that it needs.
    symlinkSync(join(ROOT, 'node_modules/jsonwebtoken'), join(folder, 'node_modules/jsonwebtoken'), 'junction')
    const program = await Program.start('server.mjs', { cwd: folder, env: { JWT_SECRET, PORT: '0' } })
    try {
      const client = new WebSocket(`ws://127.0.0.1:${program.port}/ws?token=${jwt.sign({ user_id: 'reader' }, JWT_SECRET)}`)
      client.on('open', () => client.send(JSON.stringify({ type: 'subscribe', data: { bill_id: 42 } })))
      const [data] = (await once(client, 'message', { signal: AbortSignal.timeout(10_000) })) as [Buffer]
      assert.match(String(data), /"type":"connected"/)
      client.close()
      await once(client, 'close', { signal: AbortSignal.timeout(10_000) })
    } finally {
      assert.equal(await program.stop(), 0)
    }
  })

  async function evaluate(name: string, source: string): Promise<unknown[]> {
    writeFileSync(join(folder, name), source)
    return JSON.parse((await execute(process.execPath, [name], { cwd: folder })).stdout) as unknown[]
  }

  async function pack(directory: string): Promise<{ filename: string; files: string[] }> {
    const [report] = JSON.parse(await npm(['pack', '--json', '--pack-destination', folder], directory)) as [{ filename: string; files: { path: string }[] }]
    return { filename: report.filename, files: report.files.map(({ path }) => path) }
  }

  /** As a release does it: the CLI writes one package per platform, and the binary goes into its own. */
  async function packBinary(): Promise<{ filename: string }> {
    const packages = join(ROOT, 'target/npm')
    rmSync(packages, { recursive: true, force: true })
    await execute(process.execPath, [join(ROOT, 'node_modules/@napi-rs/cli/dist/cli.js'), 'create-npm-dirs', '--npm-dir', 'target/npm'], { cwd: ROOT })
    copyFileSync(ADDON, join(packages, TRIPLE, `carillon.${TRIPLE}.node`))
    return pack(join(packages, TRIPLE))
  }
})

function quickStart(): string {
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8')
  const code = /^## Quick start$[\s\S]*?^```js\n([\s\S]*?)^```$/m.exec(readme)?.[1]
  assert.ok(code, 'README.md has no js block under "Quick start"')
  return code
}
