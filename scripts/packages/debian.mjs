// Debian's packages, unpacked into a folder instead of installed: nothing on the machine changes, and other releases and
// architectures do not disturb it.

import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { CommandFailed, run } from '../run.mjs'

/** What every machine has, at a version that suits its own C library. */
const ON_EVERY_MACHINE = ['libc6', 'libgcc-s1', 'libstdc++6', /^gcc-\d+-base$/]

const DEPENDENCIES = ['--recurse', '--no-suggests', '--no-recommends', '--no-conflicts', '--no-breaks', '--no-replaces', '--no-enhances']

/** What is missing for the functions below, as one line; undefined if nothing is. */
export function missingForDebian() {
  try {
    execFileSync('dpkg-deb', ['--version'], { stdio: 'ignore' })
    if (mirror() === undefined) return 'a mirror of Debian among the sources of apt'
    return undefined
  } catch {
    return 'apt-get and dpkg-deb, of Debian'
  }
}

/** Unpacks packages of this machine's release. */
export async function unpack(packages, into) {
  await download(packages, into, [])
}

/** Unpacks packages, and the libraries that these libraries need. */
export async function unpackWithLibraries(packages, libraries, into) {
  const listed = await run('apt-cache', ['depends', ...DEPENDENCIES, ...libraries], { quiet: true })
  const needed = listed.split('\n').filter((line) => /^[a-z0-9][a-z0-9.+-]+$/.test(line))
  const own = needed.filter((name) => !ON_EVERY_MACHINE.some((known) => (known instanceof RegExp ? known.test(name) : known === name)))
  await unpack([...new Set([...packages, ...own])], into)
}

/** Unpacks packages of another release or architecture, whose lists are fetched for this alone. */
export async function unpackForeign(packages, { release, architecture }, into) {
  const state = join(into, 'apt')
  for (const folder of ['lists/partial', 'cache/archives/partial']) mkdirSync(join(state, folder), { recursive: true })
  writeFileSync(join(state, 'sources.list'), `deb [arch=${architecture}] ${mirror()} ${release} main\n`)
  writeFileSync(join(state, 'status'), '')
  const options = [
    `Dir::Etc::sourcelist=${join(state, 'sources.list')}`,
    'Dir::Etc::sourceparts=-',
    `Dir::State::lists=${join(state, 'lists')}`,
    `Dir::State::status=${join(state, 'status')}`,
    `Dir::Cache=${join(state, 'cache')}`,
    `APT::Architecture=${architecture}`,
    `APT::Architectures=${architecture}`,
    'Acquire::Languages=none',
    'APT::Sandbox::User=root',
  ].flatMap((option) => ['-o', option])
  await run('apt-get', [...options, 'update', '-qq'])
  await download(packages, into, options)
  rmSync(state, { recursive: true, force: true })
}

async function download(packages, into, options) {
  const archives = join(into, 'archives')
  mkdirSync(archives, { recursive: true })
  await run('apt-get', [...options, '-o', 'APT::Sandbox::User=root', 'download', '-qq', ...packages], { cwd: archives })
  const files = readdirSync(archives).filter((name) => name.endsWith('.deb'))
  if (files.length !== packages.length) throw new CommandFailed(`apt-get brought ${files.join(', ')} for ${packages.join(', ')}`)
  for (const file of files) await run('dpkg-deb', ['--extract', join(archives, file), into])
  rmSync(archives, { recursive: true, force: true })
}

/** The address that apt has for Debian's main archive. */
function mirror() {
  const listed = execFileSync('apt-get', ['indextargets', '--format', '$(REPO_URI) $(ORIGIN) $(LABEL)'], { encoding: 'utf8' })
  return listed.split('\n').find((line) => line.endsWith(' Debian Debian'))?.split(' ')[0]
}
