// Compiles __test__/ and runs it with Node's own runner. `npm run test:js -- browser` runs the files with that word in them.

import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { ensureClient } from './client.mjs'
import { ensureAddon, ensureDependencies } from './setup.mjs'
import { CommandFailed, ROOT, main, run, tool } from './run.mjs'

const COMPILED = `${ROOT}target/js-test`
const FILE_TIMEOUT = 300_000

/** Files that measure time or memory: what runs beside them would be measured, too. */
const ALONE = ['cost', 'heartbeat', 'pressure']

export async function compileTests() {
  rmSync(COMPILED, { recursive: true, force: true })
  mkdirSync(COMPILED, { recursive: true })
  await ensureClient()
  await tool('typescript/bin/tsc', ['-p', '__test__/tsconfig.json'])
  // JavaScript that is compiled into the addon.
  await tool('typescript/bin/tsc', ['-p', '__test__/tsconfig.binding.json'])
}

/** Resolves with what the runner printed. */
export async function runTests(filters = []) {
  const files = readdirSync(COMPILED, { recursive: true })
    .filter((name) => name.endsWith('.spec.mjs') && (filters.length === 0 || filters.some((filter) => name.includes(filter))))
    .sort()
  if (files.length === 0) throw new CommandFailed(`no test file matches ${filters.join(' ')}`)
  const [alone, together] = [files.filter(isAlone), files.filter((name) => !isAlone(name))]
  const outputs = []
  if (together.length > 0) outputs.push(await runFiles(together, 2))
  if (alone.length > 0) outputs.push(await runFiles(alone, 1))
  return outputs.join('\n')
}

function isAlone(name) {
  return ALONE.some((word) => name === `${word}.spec.mjs`)
}

function runFiles(files, concurrency) {
  const paths = files.map((name) => `${COMPILED}/${name}`)
  const options = ['--test-reporter=spec', `--test-concurrency=${concurrency}`, `--test-timeout=${FILE_TIMEOUT}`]
  return run(process.execPath, ['--test', ...options, ...paths])
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  await main(async () => {
    await ensureDependencies()
    await ensureAddon()
    await compileTests()
    await runTests(process.argv.slice(2))
  })
}
