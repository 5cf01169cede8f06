// The client package in client/: `npm run client:build` builds it, `npm run test:client` tests it.

import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { ROOT, CommandFailed, main, run, tool } from './run.mjs'
import { ensureDependencies } from './setup.mjs'

const CLIENT = `${ROOT}client/`
const DIST = `${CLIENT}dist/`
/** Inside the package, so that the tests import it by its name. */
const COMPILED = `${CLIENT}.test/`
const ENTRIES = ['index', 'react']

/** ES modules, CommonJS and declarations into client/dist. React and the package itself stay imports. */
export async function buildClient() {
  rmSync(DIST, { recursive: true, force: true })
  await tool('typescript/bin/tsc', ['-p', `${CLIENT}tsconfig.json`])
  const { build } = await import('esbuild')
  for (const format of ['esm', 'cjs']) {
    await build({
      entryPoints: ENTRIES.map((name) => `${CLIENT}src/${name}.ts`),
      outdir: `${DIST}${format}`,
      bundle: true,
      format,
      target: 'es2022',
      external: ['react', 'carillon-client'],
      logLevel: 'warning',
    })
  }
  // The declarations are the same for both; the folder's package.json says how they are to be read.
  for (const name of readdirSync(`${DIST}esm`).filter((name) => name.endsWith('.d.ts'))) {
    cpSync(`${DIST}esm/${name}`, `${DIST}cjs/${name}`)
  }
  writeFileSync(`${DIST}cjs/package.json`, '{ "type": "commonjs" }\n')
}

/** Builds the client when a source is newer than it, or when there is none. */
export async function ensureClient() {
  const built = `${DIST}cjs/package.json`
  const sources = readdirSync(`${CLIENT}src`).map((name) => statSync(`${CLIENT}src/${name}`).mtimeMs)
  if (!existsSync(built) || Math.max(...sources) > statSync(built).mtimeMs) await buildClient()
}

/** The client's own tests, against a server of theirs. What needs the service is in __test__/client.spec.mts. */
export async function testClient(filters = []) {
  await buildClient()
  await tool('typescript/bin/tsc', ['-p', `${CLIENT}test/tsconfig.json`])
  rmSync(COMPILED, { recursive: true, force: true })
  mkdirSync(COMPILED, { recursive: true })
  const { build } = await import('esbuild')
  const specs = readdirSync(`${CLIENT}test`).filter((name) => /\.spec\.tsx?$/.test(name))
  await build({
    entryPoints: specs.map((name) => `${CLIENT}test/${name}`),
    outdir: COMPILED,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    jsx: 'automatic',
    packages: 'external',
    logLevel: 'warning',
  })
  const files = specs.map((name) => `${COMPILED}${name.replace(/tsx?$/, 'mjs')}`).sort()
  const chosen = files.filter((name) => filters.length === 0 || filters.some((filter) => name.includes(filter)))
  if (chosen.length === 0) throw new CommandFailed(`no test file matches ${filters.join(' ')}`)
  return run(process.execPath, ['--test', '--test-reporter=spec', '--test-timeout=120000', ...chosen])
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  await main(async () => {
    const [command, ...filters] = process.argv.slice(2)
    await ensureDependencies()
    if (command === 'build') await buildClient()
    else if (command === 'test') await testClient(filters)
    else throw new CommandFailed('build or test?')
  })
}
