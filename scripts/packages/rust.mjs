// A Rust compiler with the standard library of a target: the installed one where it has that (`rustup target add` brings it), else
// Debian's, whose package of the library's source is built along. Nothing is fetched from elsewhere.

import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, readdirSync, realpathSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { CommandFailed, run } from '../run.mjs'
import { missingForDebian, unpackWithLibraries } from './debian.mjs'
import { kept } from './kept.mjs'

const PACKAGES = ['rustc-web', 'rust-web-src', 'libstd-rust-web-dev']

/**
 * What cargo needs to build for the target: further arguments, the environment, and the folders whose paths the compiler would
 * write into what it builds.
 */
export async function compilerFor({ rust }) {
  const sysroot = output('rustc', ['--print', 'sysroot'])
  if (existsSync(join(sysroot, 'lib/rustlib', rust, 'lib'))) {
    return { from: output('rustc', ['--version']), args: [], env: {}, folders: [sysroot] }
  }
  const missing = missingForDebian()
  if (missing) throw new CommandFailed(`no standard library for ${rust}: run "rustup target add ${rust}". Debian's would need ${missing}`)
  return debian()
}

async function debian() {
  const version = /^Version: (\S+)/m.exec(output('apt-cache', ['show', '--no-all-versions', PACKAGES[0]]))?.[1]
  const folder = await kept(`rust-${version}`, async (into) => {
    await unpackWithLibraries(PACKAGES, ['libstd-rust-web-dev'], into)
    const [libraries] = readdirSync(join(into, 'usr/lib')).filter((name) => name.endsWith('-linux-gnu'))
    // Not set for all of the build: these libraries are for the compiler alone.
    const start = `#!/bin/sh\nroot=$(dirname "$0")\nLD_LIBRARY_PATH="$root/usr/lib/${libraries}" exec "$root/usr/bin/rustc" "$@"\n`
    writeFileSync(join(into, 'rustc'), start)
    chmodSync(join(into, 'rustc'), 0o755)
  })
  const rustc = join(folder, 'rustc')
  const source = join(folder, 'usr/lib/rustlib/src/rust')
  return {
    from: `${output(rustc, ['--version'])}, with its standard library from source`,
    args: ['-Zbuild-std=std,panic_unwind'],
    // Building the standard library is behind a flag of cargo that only this unlocks in a stable one.
    env: { RUSTC: rustc, RUSTC_BOOTSTRAP: '1' },
    folders: [source, realpathSync(source), folder],
  }
}

function output(command, args) {
  return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
}
