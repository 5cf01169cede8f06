// `npm run bench:instructions` counts the instructions of each hot path and compares them with benches/instructions.json;
// `npm run bench:instructions -- --write` writes that table anew. Needs valgrind; without it nothing is counted.
//
// Each path runs twice under callgrind, with different numbers of operations: what both runs have in common is
// preparation, what remains is the operations'.

import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CommandFailed, ROOT, main, run } from './run.mjs'

const TABLE = `${ROOT}benches/instructions.json`

/** How many times a path runs; the first few of both are warming up. */
const FEW = 100
const MANY = 600

/** What may change without being told, in percent. */
const BOUND = 5

/** Another compiler makes other code: only what is much more or much less is told then. */
const BOUND_OF_ANOTHER_COMPILER = 25

/** What the counts depend on beside the code. */
function circumstances() {
  const said = execFileSync('rustc', ['-vV'], { encoding: 'utf8' })
  const line = (name) => said.match(new RegExp(`^${name}: (.*)$`, 'm'))?.[1] ?? 'unknown'
  return { rustc: line('release'), target: line('host') }
}

function hasValgrind() {
  try {
    execFileSync('valgrind', ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

/** Builds as the addon is built for release, and returns the program. */
async function build() {
  const target = ['--no-default-features', '--bench', 'hot_paths']
  const output = await run('cargo', ['bench', '--no-run', ...target, '--message-format=json-render-diagnostics'], { quiet: true })
  const artifacts = output.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line))
  const program = artifacts.find(({ executable, target }) => executable && target.name === 'hot_paths')
  if (!program) throw new CommandFailed('cargo built no program')
  return program.executable
}

/** The hot paths, as the program lists them. */
function list(program) {
  const lines = execFileSync(program, ['list'], { encoding: 'utf8' }).trim().split('\n')
  return lines.map((line) => {
    const [name, thread, perRun] = line.split('\t')
    return { name, thread, perRun: Number(perRun) }
  })
}

/** Instructions of each thread of one run, by the thread's number. */
async function countThreads(program, name, count) {
  const folder = mkdtempSync(join(tmpdir(), 'instructions-'))
  try {
    const options = ['--tool=callgrind', '--quiet', '--separate-threads=yes', `--callgrind-out-file=${folder}/out`]
    await run('valgrind', [...options, program, name, String(count)], { quiet: true })
    const files = readdirSync(folder).filter((file) => /-\d+$/.test(file))
    return new Map(files.map((file) => [Number(file.match(/\d+$/)[0]), total(readFileSync(join(folder, file), 'utf8'))]))
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function total(profile) {
  const match = profile.match(/^(?:totals|summary): (\d+)/m)
  if (!match) throw new CommandFailed('valgrind wrote no count')
  return Number(match[1])
}

/** Instructions of one operation. The shard's thread is the one, beside the caller's, whose work grows with the count. */
async function measure(program, { name, thread, perRun }) {
  const few = await countThreads(program, name, FEW)
  const many = await countThreads(program, name, MANY)
  const slopes = [...many].map(([number, count]) => [number, (count - (few.get(number) ?? 0)) / ((MANY - FEW) * perRun)])
  const others = slopes.filter(([number]) => number !== 1).map(([, slope]) => slope)
  const slope = thread === 'shard' ? Math.max(...others) : slopes.find(([number]) => number === 1)?.[1]
  if (!Number.isFinite(slope)) throw new CommandFailed(`${name}: no count`)
  return Math.round(slope)
}

function readTable() {
  try {
    return JSON.parse(readFileSync(TABLE, 'utf8'))
  } catch (error) {
    if (error.code === 'ENOENT') throw new CommandFailed('there is no table; -- --write makes one')
    throw error
  }
}

/** The names of the paths that are not what the table says. */
function compare(measured, table, bound) {
  const width = Math.max(...Object.keys(measured).map((name) => name.length))
  const different = []
  for (const name of new Set([...Object.keys(table), ...Object.keys(measured)])) {
    const [now, before] = [measured[name], table[name]]
    const change = (now / before - 1) * 100
    const isSame = Math.abs(change) <= bound
    if (!isSame) different.push(name)
    const changed = Number.isFinite(change) ? `${change >= 0 ? '+' : ''}${change.toFixed(1)} %` : before ? 'gone' : 'new'
    console.log(`${name.padEnd(width)} ${String(now ?? '').padStart(9)} ${String(before ?? '').padStart(9)} ${changed.padStart(9)}${isSame ? '' : '  ✖'}`)
  }
  return different
}

await main(async () => {
  const given = process.argv.slice(2)
  if (given.some((word) => word !== '--write')) throw new CommandFailed('the only option is --write')
  if (!hasValgrind()) return console.log('skipped: valgrind is not installed, so instructions cannot be counted')
  const isWriting = given.includes('--write')
  const table = isWriting ? undefined : readTable()
  const program = await build()
  const measured = {}
  for (const path of list(program)) measured[path.name] = await measure(program, path)
  const now = circumstances()
  if (isWriting) {
    writeFileSync(TABLE, `${JSON.stringify({ ...now, instructions: measured }, null, 2)}\n`)
    for (const [name, count] of Object.entries(measured)) console.log(`${String(count).padStart(9)}  ${name}`)
    return
  }
  if (table.target !== now.target) return console.log(`skipped: the table is of ${table.target}, this is ${now.target}`)
  const isSameCompiler = table.rustc === now.rustc
  const bound = isSameCompiler ? BOUND : BOUND_OF_ANOTHER_COMPILER
  if (!isSameCompiler) console.log(`the table is of rustc ${table.rustc}, this is ${now.rustc}: up to ${bound} % is let pass`)
  const different = compare(measured, table.instructions, bound)
  if (different.length > 0) throw new CommandFailed(`not within ${bound} % of the table: ${different.join(', ')}`)
})
