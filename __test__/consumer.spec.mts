// The declarations as an application's compiler sees them: in a folder of its own, under the strictest settings, with every way
// to resolve modules that a server uses, by an old and a new TypeScript.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { fetchedPackages } from './support/packages.mjs'
import { ROOT } from './support/tools.mjs'

const execute = promisify(execFile)
const STRICT = {
  noEmit: true,
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  noImplicitOverride: true,
  noImplicitReturns: true,
  skipLibCheck: false,
  target: 'es2022',
  types: ['node'],
}
const RESOLUTIONS = {
  node16: { module: 'node16', moduleResolution: 'node16' },
  nodenext: { module: 'nodenext', moduleResolution: 'nodenext' },
  bundler: { module: 'esnext', moduleResolution: 'bundler' },
}
type Resolution = keyof typeof RESOLUTIONS
const EVERY = Object.keys(RESOLUTIONS) as Resolution[]
const COMPILERS = [
  { compiler: 'TypeScript 7', home: async () => ROOT, resolutions: EVERY },
  { compiler: 'TypeScript 5.9', home: () => fetchedPackages({ typescript: '5.9.3' }), resolutions: EVERY },
  // The oldest that @types/node supports.
  { compiler: 'TypeScript 5.6', home: () => fetchedPackages({ typescript: '5.6.3' }), resolutions: ['nodenext'] as Resolution[] },
]

describe('a strict application', () => {
  let folder: string

  before(() => {
    mkdirSync(join(ROOT, 'target'), { recursive: true })
    folder = mkdtempSync(join(ROOT, 'target/consumer-'))
    const carillon = join(folder, 'node_modules/carillon')
    mkdirSync(carillon, { recursive: true })
    for (const name of ['index.js', 'platform.js', 'index.d.ts', 'package.json']) copyFileSync(join(ROOT, name), join(carillon, name))
    symlinkSync(join(ROOT, 'node_modules/@types'), join(folder, 'node_modules/@types'), 'junction')
    symlinkSync(join(ROOT, 'node_modules/undici-types'), join(folder, 'node_modules/undici-types'), 'junction')
    writeFileSync(join(folder, 'package.json'), '{ "private": true, "type": "module" }')
    for (const name of ['application.mts', 'application.cts']) copyFileSync(join(ROOT, '__test__/consumer', name), join(folder, name))
  })

  after(() => rmSync(folder, { recursive: true, force: true }))

  for (const { compiler, home, resolutions } of COMPILERS) {
    for (const resolution of resolutions) {
      it(`compiles with ${compiler}, ${resolution}`, { timeout: 180_000 }, async (test) => {
        const compilerHome = await home()
        if (compilerHome === undefined) return test.skip(`${compiler} could not be fetched from npm`)
        // An ECMAScript module for a bundler has no `import x = require(…)`.
        const files = resolution === 'bundler' ? ['application.mts'] : ['application.mts', 'application.cts']
        assert.equal(await compile(compilerHome, resolution, files), '')
      })
    }
  }

  it('gets an error for a mistake', async () => {
    writeFileSync(join(folder, 'mistake.mts'), `import { webSocketService } from 'carillon'\nwebSocketService.initialize(8080)\n`)
    assert.match(await compile(ROOT, 'nodenext', ['mistake.mts']), /^mistake\.mts\(2,\d+\): error TS2345/)
  })

  /** Resolves with what the compiler prints. */
  async function compile(compilerHome: string, resolution: Resolution, files: string[]): Promise<string> {
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: { ...STRICT, ...RESOLUTIONS[resolution] }, files }))
    const tsc = join(compilerHome, 'node_modules/typescript/bin/tsc')
    return execute(process.execPath, [tsc, '-p', '.', '--pretty', 'false'], { cwd: folder })
      .then(({ stdout }) => stdout, ({ stdout, stderr }: { stdout: string; stderr: string }) => stdout + stderr)
  }
})
