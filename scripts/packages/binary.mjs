// Builds the addon of one target into the folder of its package.

import { copyFileSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { CommandFailed, ROOT, run } from '../run.mjs'
import { inspect } from './inspect.mjs'
import { CARGO_TARGET, packageFolder } from './places.mjs'
import { compilerFor } from './rust.mjs'
import { GLIBC } from './targets.mjs'
import { zig } from './zig.mjs'

const CARGO_HOME = process.env.CARGO_HOME || join(homedir(), '.cargo')

/** Resolves with the path of the binary, which has passed the inspection. */
export async function buildBinary(target) {
  const folder = packageFolder(target.name)
  rmSync(folder, { recursive: true, force: true })
  const compiler = await compilerFor(target)
  console.log(`building ${target.name} with ${compiler.from}`)
  await run('cargo', ['fetch', '--locked', '--target', target.rust], { env: compiler.env })
  const env = { ...compiler.env, CARGO_TARGET_DIR: CARGO_TARGET, CARGO_INCREMENTAL: '0', RUSTFLAGS: flags(target, compiler).join(' ') }
  const [command, first, more] = await builder(target)
  await run(command, [...first, '--release', '--locked', '--lib', ...compiler.args], { env: { ...env, ...more } })
  mkdirSync(folder, { recursive: true })
  const binary = join(folder, target.binary)
  copyFileSync(join(CARGO_TARGET, target.rust, 'release', target.library), binary)
  await inspect(binary, target)
  return binary
}

/** Linux from any machine, by Zig; the others each on their own system. */
async function builder(target) {
  if (target.os !== 'linux') {
    if (process.platform !== target.os) throw new CommandFailed(`${target.name} is built on ${target.os} alone`)
    return ['cargo', ['build', '--target', target.rust], {}]
  }
  const tools = await zig()
  const rust = target.libc === 'glibc' ? `${target.rust}.${GLIBC}` : target.rust
  const path = [dirname(tools.zigbuild), process.env.PATH].join(delimiter)
  return [tools.zigbuild, ['zigbuild', '--target', rust], { CARGO_ZIGBUILD_ZIG_PATH: tools.zig, PATH: path }]
}

function flags(target, compiler) {
  const found = remapped(compiler).map(([from, to]) => `--remap-path-prefix=${from}=${to}`)
  // An addon shares the C library of its process.
  if (target.libc === 'musl') found.push('-C', 'target-feature=-crt-static')
  // These linkers write the path of what they make into it.
  if (target.os === 'darwin') found.push('-C', `link-arg=-Wl,-install_name,@rpath/${target.binary}`)
  if (target.os === 'win32') found.push('-C', 'link-arg=/PDBALTPATH:%_PDB%')
  const blank = found.find((flag) => flag.includes(' '))
  if (blank) throw new CommandFailed(`a path with a blank cannot be given to the compiler: ${blank}`)
  return found
}

/** What the paths of this machine become in messages and symbols of the binary. The compiler takes the last that fits. */
function remapped({ folders }) {
  const sources = join(CARGO_HOME, 'registry/src')
  return [
    [ROOT.replace(/[\\/]$/, ''), '/carillon'],
    [CARGO_HOME, '/cargo'],
    ...readdirSync(sources).map((name) => [join(sources, name), '/crates']),
    ...folders.map((folder) => [folder, '/rust']),
  ]
}
