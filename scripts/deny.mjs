// `npm run deny`: licences, sources, duplicates and denied crates among the dependencies, as deny.toml has it. Reads what cargo knows,
// so that it needs nothing that is not here anyway; known weaknesses (advisories) are cargo-deny's part, where that is installed and
// has their database or can fetch it.

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { CommandFailed, ROOT, main, run } from './run.mjs'

const CRATES_IO = 'registry+https://github.com/rust-lang/crates.io-index'

/** How long the database of advisories may take to come. */
const FETCH_TIMEOUT = 120_000

/** What cargo-deny says when the database of advisories is neither here nor to be had. */
const NO_DATABASE = /failed to (?:fetch|open|clone|load) (?:the )?advisory database|unable to (?:fetch|find) .*advisory/i

/** The list of strings with this name. deny.toml holds nothing more complicated, so that this is enough to read it. */
export function listIn(toml, name) {
  const list = toml.match(new RegExp(`^${name} = \\[([^\\]]*)\\]`, 'm'))
  if (!list) throw new CommandFailed(`deny.toml has no list "${name}"`)
  return [...list[1].replace(/#.*$/gm, '').matchAll(/"([^"]*)"/g)].map(([, text]) => text)
}

/** Whether an SPDX expression can be satisfied with these licences alone. `/` means OR, as crates used to write it. */
export function isAllowed(expression, allowed) {
  const words = expression.replaceAll('/', ' OR ').match(/\(|\)|[^\s()]+/g) ?? []
  let at = 0
  const oneOf = () => {
    let satisfied = allOf()
    while (words[at] === 'OR') {
      at += 1
      satisfied = allOf() || satisfied
    }
    return satisfied
  }
  const allOf = () => {
    let satisfied = term()
    while (words[at] === 'AND') {
      at += 1
      satisfied = term() && satisfied
    }
    return satisfied
  }
  const term = () => {
    if (words[at] === '(') {
      at += 1
      const satisfied = oneOf()
      at += 1
      return satisfied
    }
    let licence = words[at++]
    if (words[at] === 'WITH') {
      licence = `${licence} WITH ${words[at + 1]}`
      at += 2
    }
    return allowed.includes(licence)
  }
  const satisfied = oneOf()
  return satisfied && at === words.length
}

/** `name`, or `name@version` where the version may leave out its last numbers. */
export function isMeant(spec, { name, version }) {
  const [wanted, start] = spec.split('@')
  return name === wanted && (start === undefined || version === start || version.startsWith(`${start}.`))
}

/**
 * What is wrong; nothing if all is well. `packages` are those of `cargo metadata`; `shipped` is what `cargo tree` lists as linked or
 * needed to build, without what only tests need: that alone must be there once.
 */
export function faults({ packages, workspace_members }, shipped, toml) {
  const [allowed, denied, skipped] = ['allow', 'deny', 'skip'].map((name) => listIn(toml, name))
  const found = []
  for (const crate of packages.filter(({ id }) => !workspace_members.includes(id))) {
    const name = `${crate.name} ${crate.version}`
    if (crate.source !== CRATES_IO) found.push(`${name} is from ${crate.source ?? 'a folder'}, not from crates.io`)
    if (!crate.license) found.push(`${name} names no licence`)
    else if (!isAllowed(crate.license, allowed)) found.push(`${name} has the licence ${crate.license}, which is not allowed`)
    if (denied.some((spec) => isMeant(spec, crate))) found.push(`${name} is denied`)
  }
  const crates = [...new Set(shipped.match(/^\S+ v\S+/gm))].map((line) => {
    const [name, version] = line.split(' v')
    return { name, version }
  })
  const versions = new Map()
  for (const { name, version } of crates.filter((crate) => !skipped.some((spec) => isMeant(spec, crate)))) {
    versions.set(name, [...(versions.get(name) ?? []), version])
  }
  for (const [name, several] of versions) {
    if (several.length > 1) found.push(`${name} is there ${several.length} times: ${several.join(', ')}`)
  }
  for (const spec of skipped.filter((spec) => !crates.some((crate) => isMeant(spec, crate)))) found.push(`${spec} is skipped, but not there`)
  return found
}

export async function deny() {
  const metadata = JSON.parse(await run('cargo', ['metadata', '--locked', '--all-features', '--format-version', '1'], { quiet: true }))
  const shipped = await run('cargo', ['tree', '--locked', '--target', 'all', '--edges', 'normal,build', '--prefix', 'none'], { quiet: true })
  const found = faults(metadata, shipped, readFileSync(`${ROOT}deny.toml`, 'utf8'))
  if (found.length > 0) throw new CommandFailed(`deny.toml does not allow it:\n  ${found.join('\n  ')}`)
  console.log(`licences, sources, duplicates and denied crates: ok, ${metadata.packages.length} packages`)
  advisories()
}

function advisories() {
  try {
    execFileSync('cargo', ['deny', '--version'], { stdio: 'ignore' })
  } catch {
    return console.log('advisories: skipped, cargo-deny is not installed')
  }
  const check = (...what) => execFileSync('cargo', ['deny', 'check', ...what], { cwd: ROOT, stdio: 'pipe', timeout: FETCH_TIMEOUT })
  try {
    check('licenses', 'bans', 'sources')
    check('advisories')
    console.log('advisories: ok')
  } catch (failure) {
    const said = `${failure.stdout ?? ''}${failure.stderr ?? ''}`
    if (failure.code !== 'ETIMEDOUT' && !NO_DATABASE.test(said)) throw new CommandFailed(`cargo-deny found something:\n${said}`)
    console.log('advisories: skipped, there is no database and none can be fetched')
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await main(deny)
