// The folders that are published: one per binary, the package itself, and the client.

import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { CommandFailed, ROOT } from '../run.mjs'
import { noticesOf } from './notices.mjs'
import { packageFolder } from './places.mjs'
import { NAMES, target as targetOf } from './targets.mjs'

export const NOTICES = 'THIRD-PARTY-NOTICES.txt'

/** Of the package, all that an installed one has a use for. */
const MAIN = ['name', 'version', 'description', 'license', 'homepage', 'repository', 'bugs', 'keywords', 'main', 'types', 'exports', 'files', 'engines']
const SHARED = ['version', 'license', 'homepage', 'repository', 'bugs', 'engines']

export function manifest() {
  return JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
}

/** The package of a binary that lies in its folder already, or is given. */
export async function assembleBinary(target, from) {
  const { name, os, cpu, libc, binary, package: packageName } = target
  const folder = packageFolder(name)
  mkdirSync(folder, { recursive: true })
  if (from !== undefined) copyFileSync(from, join(folder, binary))
  if (!existsSync(join(folder, binary))) throw new CommandFailed(`there is no ${binary} in ${folder}`)
  write(folder, {
    name: packageName,
    description: `The binary of carillon for ${name}`,
    ...pick(manifest(), SHARED),
    os: [os],
    cpu: [cpu],
    ...(libc && { libc: [libc] }),
    main: binary,
    files: [binary, NOTICES],
  })
  copyFileSync(join(ROOT, 'LICENSE'), join(folder, 'LICENSE'))
  writeFileSync(join(folder, NOTICES), await noticesOf(target, join(folder, binary)))
  const home = manifest().homepage.replace(/#.*/, '')
  writeFileSync(join(folder, 'README.md'), `# ${packageName}\n\nThe binary of [carillon](${home}) for ${name}. Install \`carillon\`: it chooses its binary itself.\n`)
  return folder
}

/** The binaries whose packages are there, at the version of the package. */
export function assembledBinaries() {
  const { version } = manifest()
  return NAMES.filter((name) => {
    const path = join(packageFolder(name), 'package.json')
    return existsSync(path) && JSON.parse(readFileSync(path, 'utf8')).version === version
  })
}

/** The package itself, which asks for these binaries: all of them when it is published. */
export function assembleMain(names) {
  const own = manifest()
  const folder = empty('carillon')
  const optionalDependencies = Object.fromEntries(names.map((name) => [targetOf(name).package, own.version]))
  write(folder, { ...pick(own, MAIN), optionalDependencies })
  for (const name of [...own.files, 'README.md', 'LICENSE']) cpSync(join(ROOT, name), join(folder, name), { recursive: true })
  return folder
}

/** The client, which must have been built. */
export function assembleClient() {
  const { devDependencies: _, ...own } = JSON.parse(readFileSync(join(ROOT, 'client/package.json'), 'utf8'))
  const folder = empty(own.name)
  write(folder, own)
  for (const name of own.files) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    cpSync(join(ROOT, 'client', name), join(folder, name), { recursive: true })
  }
  return folder
}

function empty(name) {
  const folder = packageFolder(name)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  return folder
}

function write(folder, contents) {
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(contents, null, 2)}\n`)
}

function pick(from, names) {
  return Object.fromEntries(names.map((name) => [name, from[name]]))
}
