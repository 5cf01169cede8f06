// `npm test`: everything that must hold before a change is good, from formatting to the packed package. It installs and
// builds what it needs, stops at the first failure, and closes with what ran and how long it took.

import { existsSync, readFileSync } from 'node:fs'
import { testClient } from './client.mjs'
import { checkCircles } from './circles.mjs'
import * as conformance from './conformance.mjs'
import { deny } from './deny.mjs'
import { fuzz } from './fuzz.mjs'
import { CommandFailed, ROOT, main, run } from './run.mjs'
import { build, ensureDependencies } from './setup.mjs'
import { compileTests, runTests } from './test-js.mjs'

const GENERATED = 'index.d.ts'
const CORE = ['--locked', '--no-default-features']
const DENY = ['--', '-D', 'warnings']

/** For each fuzz target: enough to see that it runs. */
const FUZZ_SECONDS = 5

const steps = []
const counts = { passed: 0, failed: 0, skipped: 0 }

async function step(name, action) {
  console.log(`\n━━ ${name}`)
  const started = performance.now()
  let failure, skipped
  try {
    const outcome = await action()
    skipped = outcome?.skipped
    count(outcome)
  } catch (error) {
    failure = error
  }
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  steps.push({ name, seconds, failed: Boolean(failure), skipped })
  console.log(`━━ ${name}: ${failure ? 'failed' : skipped ? `skipped, it needs ${skipped}` : 'ok'} after ${seconds} s`)
  if (failure) {
    summary()
    throw failure
  }
}

await main(async () => {
  await step('install', ensureDependencies)
  await step('format', format)
  await step('no circles of imports', checkCircles)
  await step('clippy, core alone', () => run('cargo', ['clippy', '--all-targets', ...CORE, ...DENY]))
  await step('clippy, with the binding', () => run('cargo', ['clippy', '--all-targets', '--locked', ...DENY]))
  await step('the core knows no Node', coreIsAlone)
  await step('dependencies: licences, sources, duplicates', deny)
  await step('Rust tests', () => run('cargo', ['test', ...CORE]))
  await step('models of threads over locks', () => run('npm', ['run', 'test:models']))
  await step('what a peer can cost', () => run('npm', ['run', 'test:cost']))
  await step('tests of the load generator', () => run('cargo', ['test', '--locked', '--manifest-path', 'bench/load/Cargo.toml']))
  await step('build the addon, declarations unchanged', buildUnchanged)
  await step('tests of the client', () => testClient())
  await step('types and compilation of the tests', compileTests)
  await step('JavaScript tests', () => runTests())
  await step('packages, around the addon of the tests', () => run(process.execPath, ['scripts/packages/test-packages.mjs', '--quick']))
  await step('conformance, the quick part', () => conformance.conformance('quick'))
  await step('conformance over the bridge', () => conformance.conformance('quick', 'bridge'))
  await step('conformance finds what is wrong', conformance.prove)
  await step('conformance against the Autobahn suite', compareWithAutobahn)
  await step('fuzzing, briefly', () => fuzz(FUZZ_SECONDS))
  summary()
})

/** The one step that may be left out: the suite runs in Python 2.7 alone, and its cases have been run without it. */
function compareWithAutobahn() {
  const skipped = conformance.missingForAutobahn()
  return skipped ? { skipped } : conformance.compare('quick')
}

async function coreIsAlone() {
  const tree = await run('cargo', ['tree', ...CORE, '--edges', 'normal,build', '--prefix', 'none'], { quiet: true })
  if (/^napi/m.test(tree)) throw new CommandFailed('napi is in the dependency tree of the core')
}

/** Packages of their own are formatted like the main one. */
async function format() {
  await run('cargo', ['fmt', '--check'])
  await run('cargo', ['fmt', '--check', '--manifest-path', 'fuzz/Cargo.toml'])
}

/** index.d.ts is generated and committed: a build must reproduce what is there. */
async function buildUnchanged() {
  const read = () => (existsSync(ROOT + GENERATED) ? readFileSync(ROOT + GENERATED, 'utf8') : undefined)
  const before = read()
  await build()
  if (read() !== before) throw new CommandFailed(`${GENERATED} changed with the build: commit what was generated`)
}

/** Adds up what cargo's and Node's runners have counted. */
function count(output) {
  if (typeof output !== 'string') return
  for (const [, passed, failed, ignored] of output.matchAll(/^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/gm)) {
    counts.passed += Number(passed)
    counts.failed += Number(failed)
    counts.skipped += Number(ignored)
  }
  for (const [, name, number] of output.matchAll(/^ℹ (pass|fail|cancelled|skipped) (\d+)$/gm)) {
    counts[{ pass: 'passed', fail: 'failed', cancelled: 'failed', skipped: 'skipped' }[name]] += Number(number)
  }
}

function summary() {
  console.log('\n━━ Summary')
  const total = steps.reduce((sum, { seconds }) => sum + Number(seconds), 0)
  for (const { name, seconds, failed, skipped } of steps) {
    console.log(`${failed ? '✖' : skipped ? '–' : '✔'} ${seconds.padStart(7)} s  ${name}${skipped ? `: skipped, it needs ${skipped}` : ''}`)
  }
  console.log(`  ${total.toFixed(1).padStart(7)} s  in all`)
  const { passed, failed, skipped } = counts
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`)
}
