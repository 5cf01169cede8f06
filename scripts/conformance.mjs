// `npm run conformance`: the cases of the Autobahn suite and some more, from examples/conformance, against examples/echo.rs.
// `npm run conformance -- quick` leaves out large messages; a second word, `bridge`, runs the cases over the bridge.
// `npm run conformance -- prove` shows that the cases fail for servers that are wrong.
// `npm run conformance -- compare` (or `compare quick`) also runs the Autobahn suite itself, and fails if the two differ on
// the verdict of any case. Only this needs Python 2.7, which the suite has never left: an interpreter is looked for in
// $PYTHON2, on the path and in pyenv. The suite is installed once, into the user's cache.
// Reports are written to target/conformance/.

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
/** Conformance is no benchmark: what the tests of the addon are built with is quick enough. */
const PROFILE = 'quick'

const section = (number) => `${number}.*`
const subsections = (number, count) => Array.from({ length: count }, (_, index) => `${number}.${index + 1}`)
/** The three smallest messages and the smallest in fragments of every kind of payload and of every negotiation. */
const SMALL_DEFLATED = [...subsections(12, 5), ...subsections(13, 7)].flatMap((id) => [1, 2, 3, 11].map((size) => `${id}.${size}`))
const BASICS = ['1', '2', '3', '4', '5', '6', '7', '10'].map(section)

/** What Autobahn runs, and how many cases of it there are. */
const MODES = {
  quick: { parts: { basics: BASICS, deflate: SMALL_DEFLATED }, cases: 295 },
  full: { parts: { basics: BASICS, limits: [section(9)], payloads: [section(12)], parameters: [section(13)] }, cases: 517 },
}

/** What carries the bytes: a socket, or a bridge. */
const TRANSPORTS = ['plain', 'bridge']

/** What is missing for Autobahn here, if something is. */
export function missingForAutobahn() {
  if (existsSync(join(CACHE, 'installed')) || findPython2()) return undefined
  return 'Python 2.7 (set PYTHON2 to one)'
}

/** Runs the cases. Fails if one failed or did not run. Resolves with the verdicts by case. */
export async function conformance(mode, transport = 'plain') {
  await build()
  return withServer(transport, (url) => runCases(mode, url, transport))
}

/** Runs the cases against servers that are wrong. Fails if one is not found out. */
export async function prove() {
  await build()
  await run(program('conformance'), ['prove'])
}

/** Runs the cases and the Autobahn suite. Fails if a verdict differs. */
export async function compare(mode) {
  await installSuite()
  await build()
  const { parts, cases } = MODES[mode]
  await withServer('plain', async (url) => {
    const ours = await runCases(mode, url, 'compared')
    const theirs = {}
    for (const [name, patterns] of Object.entries(parts)) Object.assign(theirs, await runAutobahn(name, patterns, url))
    const ids = Object.keys(theirs)
    if (ids.length !== cases) throw new CommandFailed(`Autobahn ran ${ids.length} cases, and not ${cases}`)
    const differing = ids.filter((id) => verdict(ours[id]) !== verdict(theirs[id]))
    const lines = differing.map((id) => `\n  ${id}: ours ${verdict(ours[id])}, Autobahn's ${verdict(theirs[id])}`)
    if (lines.length > 0) throw new CommandFailed(`the verdicts differ on ${lines.length} cases${lines.join('')}`)
    console.log(`${ids.length} cases have the same verdict and close code as in the Autobahn suite`)
  })
}

/** What is compared. The outcome of an informational case is left to chance. */
function verdict(result) {
  if (!result) return 'none'
  const { behavior, behaviorClose, remoteCloseCode } = result
  return behavior === 'INFORMATIONAL' ? behavior : `${behavior}, closed ${behaviorClose} with ${remoteCloseCode}`
}

const program = (example) => `${ROOT}target/${PROFILE}/examples/${example}`

function build() {
  const examples = ['--example', 'echo', '--example', 'conformance']
  return run('cargo', ['build', '--locked', '--no-default-features', '--profile', PROFILE, ...examples])
}

async function runCases(mode, url, name) {
  mkdirSync(REPORTS, { recursive: true })
  const report = join(REPORTS, `${mode}-${name}.json`)
  await run(program('conformance'), [url, ...(mode === 'quick' ? ['quick'] : []), '--report', report])
  const results = JSON.parse(readFileSync(report, 'utf8'))
  const count = Object.keys(results).filter((id) => !id.startsWith('20.')).length
  if (count !== MODES[mode].cases) throw new CommandFailed(`${count} cases of the suite ran, and not ${MODES[mode].cases}`)
  return results
}

/** Runs the echo server on a free port for as long as `action` takes. */
async function withServer(transport, action) {
  const child = spawn(program('echo'), ['127.0.0.1:0', transport], { stdio: ['ignore', 'pipe', 'inherit'] })
  const failed = new Promise((_, reject) => {
    child.on('error', reject)
    child.on('exit', (code) => reject(new CommandFailed(`the server ended with ${code}`)))
  })
  failed.catch(() => {})
  try {
    const lines = createInterface({ input: child.stdout })
    const url = await Promise.race([new Promise((resolve) => lines.once('line', resolve)), failed])
    return await Promise.race([action(url), failed])
  } finally {
    child.kill()
  }
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

async function installSuite() {
  if (existsSync(join(CACHE, 'installed'))) return
  const python2 = findPython2()
  if (!python2) throw new CommandFailed(`the Autobahn suite needs ${missingForAutobahn()}`)
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

/** One process of the suite: it reports when it ends, so that a hang costs one part. */
async function runAutobahn(name, patterns, url) {
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
  console.log(`Autobahn, ${name}: ${Object.keys(results).length} cases in ${((performance.now() - started) / 1000).toFixed(0)} s`)
  return results
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  await main(() => {
    const words = process.argv.slice(2)
    const [command] = words
    if (command === 'prove') return prove()
    const [mode = 'full', transport = 'plain'] = command === 'compare' ? words.slice(1) : words
    if (!Object.hasOwn(MODES, mode)) throw new CommandFailed(`there is ${Object.keys(MODES).join(' and ')}, no ${mode}`)
    if (!TRANSPORTS.includes(transport)) throw new CommandFailed(`there is ${TRANSPORTS.join(' and ')}, no ${transport}`)
    return command === 'compare' ? compare(mode) : conformance(mode, transport)
  })
}
