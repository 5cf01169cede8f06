// `npm run conformance`: the Autobahn suite against examples/echo.rs, all 517 cases in some 10 minutes;
// `npm run conformance -- quick` leaves out limits and large compressed messages, and takes half a minute. A second word,
// `bridge`, runs it over the bridge.
//
// The suite has never left Python 2.7: an interpreter is looked for in $PYTHON2, on the path and in pyenv. It is installed
// once, into the user's cache. Reports are written to target/conformance/.

import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, openSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import { CommandFailed, ROOT, main, run } from './run.mjs'

// What it depends on needs no pins: nobody publishes for Python 2.7 any more, so the newest that fits stays the same.
const SUITE = 'autobahntestsuite==25.10.1'
/** The last one that makes environments for Python 2.7. */
const VIRTUALENV = 'virtualenv==20.21.1'

const CACHE = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'carillon', 'conformance-1')
const REPORTS = join(ROOT, 'target', 'conformance')

const section = (number) => `${number}.*`
/** The three smallest messages and the smallest in fragments of every kind of payload and of every negotiation. */
const SMALL_DEFLATED = [...subsections(12, 5), ...subsections(13, 7)].flatMap((id) => [1, 2, 3, 11].map((size) => `${id}.${size}`))
const BASICS = ['1', '2', '3', '4', '5', '6', '7', '10'].map(section)

/** What is run, the cases that makes, and the profile the server is built with. */
const MODES = {
  quick: {
    parts: { basics: BASICS, deflate: SMALL_DEFLATED },
    cases: 295,
    profile: 'quick',
  },
  full: {
    parts: { basics: BASICS, limits: [section(9)], payloads: [section(12)], parameters: [section(13)] },
    cases: 517,
    profile: 'release',
  },
}

/** What carries the bytes: a socket, or a bridge. */
const TRANSPORTS = ['plain', 'bridge']

/** Verdicts of the suite that are no fault. NON-STRICT is one: bad UTF-8 must be found at once. */
const FINE = ['OK', 'INFORMATIONAL']

/** What is missing for the suite here, if something is. */
export function missing() {
  if (existsSync(join(CACHE, 'installed')) || findPython2()) return undefined
  return 'Python 2.7 (set PYTHON2 to one)'
}

/** Runs the suite. Fails if a case failed, or did not run. */
export async function conformance(mode, transport = 'plain') {
  const { parts, cases, profile } = MODES[mode]
  await install()
  await run('cargo', ['build', '--locked', '--no-default-features', '--profile', profile, '--example', 'echo'])
  const server = await startServer(`${ROOT}target/${profile}/examples/echo`, transport)
  const results = {}
  try {
    for (const [name, patterns] of Object.entries(parts)) Object.assign(results, await runCases(name, patterns, server.url))
  } finally {
    server.stop()
  }
  judge(results, cases)
}

function subsections(number, count) {
  return Array.from({ length: count }, (_, index) => `${number}.${index + 1}`)
}

function findPython2() {
  const pyenv = join(process.env.PYENV_ROOT || join(homedir(), '.pyenv'), 'versions')
  const versions = existsSync(pyenv) ? readdirSync(pyenv).filter((name) => name.startsWith('2.7')) : []
  const candidates = [process.env.PYTHON2, 'python2.7', 'python2', ...versions.map((name) => join(pyenv, name, 'bin', 'python2.7'))]
  // One that is on the path may be a shim for nothing, and one that is there may lack what the suite imports.
  return candidates.filter(Boolean).find((python) => succeeds(python, ['-c', 'import ssl, zlib, sys; assert sys.version_info[:2] == (2, 7)']))
}

function succeeds(command, args) {
  try {
    execFileSync(command, args, { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

async function install() {
  if (existsSync(join(CACHE, 'installed'))) return
  const python2 = findPython2()
  if (!python2) throw new CommandFailed(`the suite needs ${missing()}`)
  console.log(`installing ${SUITE} into ${CACHE}`)
  rmSync(CACHE, { recursive: true, force: true })
  mkdirSync(CACHE, { recursive: true })
  const bootstrap = join(CACHE, 'bootstrap')
  await run('python3', ['-m', 'venv', bootstrap])
  await run(join(bootstrap, 'bin', 'pip'), ['install', '-q', VIRTUALENV])
  await run(join(bootstrap, 'bin', 'virtualenv'), ['-q', '-p', python2, join(CACHE, 'env')])
  await run(join(CACHE, 'env', 'bin', 'pip'), ['install', '-q', '--no-python-version-warning', SUITE])
  rmSync(bootstrap, { recursive: true })
  writeFileSync(join(CACHE, 'installed'), SUITE)
}

/** Starts the server on a free port. */
async function startServer(program, transport) {
  const child = spawn(program, ['127.0.0.1:0', transport], { stdio: ['ignore', 'pipe', 'inherit'] })
  const failed = new Promise((_, reject) => {
    child.on('error', reject)
    child.on('exit', (code) => reject(new CommandFailed(`the server ended with ${code}`)))
  })
  failed.catch(() => {})
  const lines = createInterface({ input: child.stdout })
  const url = await Promise.race([new Promise((resolve) => lines.once('line', resolve)), failed])
  return { url, stop: () => child.kill() }
}

/** One process of the suite: it reports when it ends, so that a hang costs one part. */
async function runCases(name, patterns, url) {
  const outdir = join(REPORTS, name)
  rmSync(outdir, { recursive: true, force: true })
  mkdirSync(outdir, { recursive: true })
  const spec = join(outdir, 'spec.json')
  const agent = 'carillon'
  writeFileSync(
    spec,
    JSON.stringify({ outdir, servers: [{ agent, url }], cases: patterns, 'exclude-cases': [], 'exclude-agent-cases': {} }),
  )
  const started = performance.now()
  const log = openSync(join(outdir, 'suite.log'), 'w')
  const { PYTHONPATH, PYTHONHOME, ...env } = process.env
  const child = spawn(join(CACHE, 'env', 'bin', 'wstest'), ['-m', 'fuzzingclient', '-s', spec], {
    cwd: outdir,
    env,
    stdio: ['ignore', log, log],
    timeout: 3_600_000,
  })
  await new Promise((resolve, reject) => child.on('error', reject).on('close', resolve))
  const index = join(outdir, 'index.json')
  if (!existsSync(index)) throw new CommandFailed(`the suite gave no report, see ${join(outdir, 'suite.log')}`)
  const results = JSON.parse(readFileSync(index, 'utf8'))[agent]
  console.log(`${name}: ${Object.keys(results).length} cases in ${((performance.now() - started) / 1000).toFixed(0)} s`)
  return results
}

function judge(results, expected) {
  const verdicts = {}
  const failures = []
  for (const [id, { behavior, behaviorClose }] of Object.entries(results)) {
    verdicts[behavior] = (verdicts[behavior] ?? 0) + 1
    if (!FINE.includes(behavior) || !FINE.includes(behaviorClose)) failures.push(`${id}: ${behavior}, its close: ${behaviorClose}`)
  }
  const count = Object.keys(results).length
  console.log(`${count} cases: ${Object.entries(verdicts).map(([name, number]) => `${number} ${name}`).join(', ')}`)
  if (failures.length > 0) throw new CommandFailed(`${failures.length} cases failed, see ${REPORTS}\n  ${failures.join('\n  ')}`)
  if (count !== expected) throw new CommandFailed(`${count} cases ran, and not ${expected}`)
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  await main(() => {
    const [mode = 'full', transport = 'plain'] = process.argv.slice(2)
    if (!Object.hasOwn(MODES, mode)) throw new CommandFailed(`there is ${Object.keys(MODES).join(' and ')}, no ${mode}`)
    if (!TRANSPORTS.includes(transport)) throw new CommandFailed(`there is ${TRANSPORTS.join(' and ')}, no ${transport}`)
    return conformance(mode, transport)
  })
}
