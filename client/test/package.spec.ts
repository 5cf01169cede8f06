// The package as npm delivers it: packed, unpacked into an empty folder, required, imported, bundled and compiled against.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'
import { build as viteBuild } from 'vite'

const CLIENT = fileURLToPath(new URL('..', import.meta.url))
const MODULES = join(CLIENT, '../node_modules')

/** What a page pays for the client, minified and compressed. */
const MAX_BYTES = 5 * 1024

const USE = `import { CarillonClient } from 'carillon-client'
export const client = new CarillonClient('wss://example.org/ws', { connect: false })
client.bill(42, { onUpdate: (update) => console.log(update) })`

const TYPED = `import { CarillonClient, CarillonError, type ServerMessage } from 'carillon-client'
import { useBill } from 'carillon-client/react'

const client = new CarillonClient('wss://example.org/ws', { getToken: async () => 'token', connect: false })
client.bill(42, {
  onUpdate(update, { pos, replayed }) {
    const [type, position, again]: [string, string | undefined, boolean] = [update.type, pos, replayed]
    console.log(type, position, again)
  },
  onGap({ reason }) {
    // @ts-expect-error: there is no such reason
    if (reason === 'because') return
  },
})
interface Line { text: string }
const room = client.channel<Line>('chat:42')
export async function read(): Promise<void> {
  for await (const { data } of room) console.log(data.text.length)
  const accepted: boolean = await client.request<boolean>('vote', { option: 1 }, { timeout: 5000 })
  console.log(accepted)
}
export function texts(message: ServerMessage): string {
  // Discriminated by type, without a cast.
  if (message.type === 'gap') return message.data.reason
  return message.type === 'error' ? message.message : ''
}
client.on('state', ({ state, delay }) => console.log(state.length, delay?.toFixed()))
// @ts-expect-error: a bill has a number
client.bill('42')
export const kind = (error: unknown): string => (error instanceof CarillonError ? error.code : 'unknown')
export const hook = useBill`

describe('the packed package', { timeout: 110_000 }, () => {
  let folder: string

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'carillon-client-'))
    const npm = process.env['npm_execpath']
    const [command, first] = npm?.endsWith('.js') ? [process.execPath, [npm]] : ['npm', []]
    execFileSync(command, [...first, 'pack', '--silent', '--pack-destination', folder], { cwd: CLIENT })
    const [tarball] = readdirSync(folder)
    const target = join(folder, 'node_modules/carillon-client')
    mkdirSync(target, { recursive: true })
    execFileSync('tar', ['-xzf', join(folder, tarball!), '-C', target, '--strip-components=1'])
    for (const name of ['react', '@types']) symlinkSync(join(MODULES, name), join(folder, 'node_modules', name))
    writeFileSync(join(folder, 'package.json'), '{ "private": true, "type": "module" }')
    writeFileSync(join(folder, 'use.js'), USE)
    writeFileSync(join(folder, 'typed.ts'), TYPED)
    writeFileSync(join(folder, 'typed.cts'), TYPED)
  })

  after(() => rmSync(folder, { recursive: true, force: true }))

  it('can be imported and required, and has no dependency', () => {
    const script = "import('carillon-client').then((esm) => console.log(typeof esm.CarillonClient, typeof require('carillon-client').CarillonClient))"
    const output = execFileSync(process.execPath, ['--input-type=commonjs', '-e', script], { cwd: folder, encoding: 'utf8' })
    assert.equal(output.trim(), 'function function')
    const manifest = JSON.parse(readFileSync(join(folder, 'node_modules/carillon-client/package.json'), 'utf8'))
    assert.equal(manifest.dependencies, undefined)
  })

  it('holds its README and licence, and no source or test', () => {
    const names = readdirSync(join(folder, 'node_modules/carillon-client')).sort()
    assert.deepEqual(names, ['LICENSE', 'README.md', 'dist', 'package.json'])
  })

  it(`costs a page at most ${MAX_BYTES} bytes, minified and compressed`, async (t) => {
    const { outputFiles } = await build({
      entryPoints: [join(folder, 'use.js')],
      bundle: true,
      minify: true,
      format: 'esm',
      target: 'es2022',
      write: false,
    })
    const bytes = gzipSync(outputFiles[0]!.contents, { level: 9 }).length
    t.diagnostic(`${bytes} bytes`)
    assert.ok(bytes <= MAX_BYTES, `${bytes} bytes`)
  })

  it('is bundled by Vite', async () => {
    const result = await viteBuild({
      root: folder,
      logLevel: 'error',
      build: { write: false, lib: { entry: join(folder, 'use.js'), formats: ['es'] } },
    })
    const [output] = [result].flat() as { output: { code: string }[] }[]
    assert.match(output!.output[0]!.code, /batch_subscribe/)
  })

  for (const module of ['node16', 'nodenext', 'bundler']) {
    it(`has types for module resolution ${module}`, () => {
      const settings = module === 'bundler' ? ['--module', 'esnext', '--moduleResolution', 'bundler'] : ['--module', module]
      const files = module === 'bundler' ? ['typed.ts'] : ['typed.ts', 'typed.cts']
      const strict = ['--strict', '--exactOptionalPropertyTypes', '--noUncheckedIndexedAccess', '--noEmit', '--target', 'es2022']
      execFileSync(process.execPath, [join(MODULES, 'typescript/bin/tsc'), ...strict, ...settings, '--types', '', ...files], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] })
    })
  }
})
