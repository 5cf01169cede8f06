// How the package finds its binary, and what it says when there is none for this platform, or none that works.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { promisify } from 'node:util'
import { ADDON, ROOT, TRIPLE } from './support/tools.mjs'

const execute = promisify(execFile)
const require = createRequire(import.meta.url)
const { version, napi } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string; napi: { targets: string[] } }
const BINARY = `carillon-${TRIPLE}`

interface Failure {
  code: string
  message: string
  causes: Array<{ code: string; message: string }>
}

describe('the loader', () => {
  it('exports what is documented and nothing else', () => {
    assert.deepEqual(Object.keys(require(join(ROOT, 'index.js'))).sort(), ['BASE_CONFIG', 'WebSocketService', 'webSocketService'])
  })

  it('knows the platforms that are built', () => {
    const ARCHITECTURES: Record<string, string> = { x86_64: 'x64', aarch64: 'arm64' }
    const names = napi.targets.map((target) => {
      const [architecture, , system, abi] = target.replace('-apple-darwin', '-apple-darwin-').split('-') as [string, string, string, string]
      const platform = system === 'windows' ? 'win32' : system
      return [platform, ARCHITECTURES[architecture], abi].filter(Boolean).join('-')
    })
    const { TRIPLES } = require(join(ROOT, 'platform.js')) as { TRIPLES: string[] }
    assert.deepEqual([...TRIPLES].sort(), names.sort())
  })

  it('loads the binary beside it', async (test) => {
    const folder = install(test)
    copyFileSync(ADDON, join(folder, `node_modules/carillon/carillon.${TRIPLE}.node`))
    // That of another platform does not matter.
    writeFileSync(join(folder, 'node_modules/carillon/carillon.aix-ppc64.node'), 'something else')
    assert.equal(await outcome(folder), 'loaded')
  })

  it('loads the package of the binary', async (test) => {
    const folder = install(test)
    installBinary(folder, { contents: ADDON })
    assert.equal(await outcome(folder), 'loaded')
  })

  it('names the missing package, the platform, and how to install or build it', async (test) => {
    const { code, message, causes } = await failure(install(test))
    assert.equal(code, 'ERR_BINARY_MISSING')
    assert.ok(message.startsWith(`The binary for this platform (${TRIPLE}) is not installed: there is no package ${BINARY}.`), message)
    assert.ok(message.includes(`npm install ${BINARY}@${version}`), message)
    for (const hint of ['npm run build', '--omit=optional', 'bundler']) assert.ok(message.includes(hint), hint)
    assert.doesNotMatch(message, /wasm|npm has a bug/i)
    assert.deepEqual(causes, [])
  })

  it('says where there is no binary for the platform, and where there is', async (test) => {
    const { code, message } = await failure(install(test), `Object.defineProperty(process, 'platform', { value: 'sunos' })`)
    assert.equal(code, 'ERR_UNSUPPORTED_PLATFORM')
    assert.ok(message.startsWith(`There is no binary for this platform: sunos-${process.arch} (Node ${process.version}).`), message)
    assert.ok(message.includes('linux-arm64-musl') && message.includes('NAPI_RS_NATIVE_LIBRARY_PATH'), message)
  })

  it('tells a damaged binary from a missing one, and keeps what the system says of it', async (test) => {
    const folder = install(test)
    installBinary(folder, { contents: Buffer.from('this is no shared library') })
    const { code, message, causes } = await failure(folder)
    assert.equal(code, 'ERR_BINARY_UNUSABLE')
    assert.ok(message.includes(`(${TRIPLE}) is there, but cannot be loaded`), message)
    assert.deepEqual(causes.map((cause) => cause.code), ['ERR_DLOPEN_FAILED'])
    assert.ok(message.includes(causes[0]?.message ?? 'no cause'), message)
  })

  it('tells a binary of another architecture from a missing one', { skip: process.platform !== 'linux' }, async (test) => {
    const folder = install(test)
    const elf = readFileSync(ADDON)
    // e_machine (ELF, gABI 4.1): SPARC.
    elf.writeUInt16LE(2, 18)
    installBinary(folder, { contents: elf })
    const { code, message, causes } = await failure(folder)
    assert.equal(code, 'ERR_BINARY_UNUSABLE')
    assert.match(message, /made for another architecture or C library/)
    assert.deepEqual(causes.map((cause) => cause.code), ['ERR_DLOPEN_FAILED'])
  })

  it('tells a package without its file from a missing one', async (test) => {
    const folder = install(test)
    installBinary(folder, {})
    const { code, causes } = await failure(folder)
    assert.deepEqual([code, causes[0]?.code], ['ERR_BINARY_UNUSABLE', 'MODULE_NOT_FOUND'])
  })

  it('refuses the binary of another version', async (test) => {
    const folder = install(test)
    installBinary(folder, { contents: ADDON, version: '0.0.1' })
    const { code, message } = await failure(folder)
    assert.equal(code, 'ERR_BINARY_VERSION')
    assert.equal(message, `carillon ${version} needs ${BINARY} ${version}, but 0.0.1 is installed. Install it with: npm install ${BINARY}@${version}`)
  })

  it('takes the file that NAPI_RS_NATIVE_LIBRARY_PATH names, and no other', async (test) => {
    const folder = install(test)
    installBinary(folder, { contents: ADDON })
    assert.equal(await outcome(folder, '', { NAPI_RS_NATIVE_LIBRARY_PATH: ADDON }), 'loaded')
    const gone = join(folder, 'gone.node')
    const { code, message } = (await outcome(folder, '', { NAPI_RS_NATIVE_LIBRARY_PATH: gone })) as Failure
    assert.equal(code, 'ERR_BINARY_MISSING')
    assert.ok(message.includes(gone), message)
  })
})

/** An application with the package, but without a binary. */
function install(test: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'carillon-loader-'))
  test.after(() => rmSync(folder, { recursive: true, force: true }))
  const carillon = join(folder, 'node_modules/carillon')
  mkdirSync(carillon, { recursive: true })
  for (const name of ['index.js', 'platform.js', 'package.json']) copyFileSync(join(ROOT, name), join(carillon, name))
  return folder
}

function installBinary(folder: string, given: { contents?: string | Buffer; version?: string }): void {
  const home = join(folder, 'node_modules', BINARY)
  const main = `carillon.${TRIPLE}.node`
  mkdirSync(home)
  writeFileSync(join(home, 'package.json'), JSON.stringify({ name: BINARY, version: given.version ?? version, main }))
  if (typeof given.contents === 'string') cpSync(given.contents, join(home, main))
  else if (given.contents) writeFileSync(join(home, main), given.contents)
}

async function failure(folder: string, before?: string): Promise<Failure> {
  const result = await outcome(folder, before)
  assert.notEqual(result, 'loaded')
  return result as Failure
}

/** In a process of its own: a binary that is loaded stays. */
async function outcome(folder: string, before = '', env: NodeJS.ProcessEnv = {}): Promise<Failure | 'loaded'> {
  const script = `
    ${before}
    try {
      const { WebSocketService } = require('carillon')
      console.log(JSON.stringify(new WebSocketService().state === 'stopped' ? 'loaded' : 'not working'))
    } catch (error) {
      const causes = []
      for (let cause = error.cause; cause; cause = cause.cause) causes.push({ code: cause.code, message: cause.message })
      console.log(JSON.stringify({ code: error.code, message: error.message, causes }))
    }`
  writeFileSync(join(folder, 'use.cjs'), script)
  const { NAPI_RS_NATIVE_LIBRARY_PATH: _, ...inherited } = process.env
  return JSON.parse((await execute(process.execPath, ['use.cjs'], { cwd: folder, env: { ...inherited, ...env } })).stdout) as Failure | 'loaded'
}
