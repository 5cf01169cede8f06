// Compiles __test__/ and runs it with Node's own runner. `npm run test:js -- browser` runs the files with that word in them.

import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { ensureClient } from './client.mjs'
import { ensureAddon, ensureDependencies } from './setup.mjs'
import { CommandFailed, ROOT, main, run, tool } from './run.mjs'

const COMPILED = `${ROOT}target/js-test`
const FILE_TIMEOUT = 300_000

export async function compileTests() {
  rmSync(COMPILED, { recursive: true, force: true })
  mkdirSync(COMPILED, { recursive: true })
  await ensureClient()
  await tool('typescript/bin/tsc', ['-p', '__test__/tsconfig.json'])
}

/** Resolves with what the runner printed. */
export function runTests(filters = []) {
  const files = readdirSync(COMPILED, { recursive: true })
    .filter((name) => name.endsWith('.spec.mjs') && (filters.length === 0 || filters.some((filter) => name.includes(filter))))
    .sort()
  if (files.length === 0) throw new CommandFailed(`no test file matches ${filters.join(' ')}`)
  const paths = files.map((name) => `${COMPILED}/${name}`)
  return run(process.execPath, ['--test', '--test-reporter=spec', '--test-concurrency=2', `--test-timeout=${FILE_TIMEOUT}`, ...paths])
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  await main(async () => {
    await ensureDependencies()
    await ensureAddon()
    await compileTests()
    await runTests(process.argv.slice(2))
  })
}
