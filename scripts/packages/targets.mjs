// The platforms that have a binary, and what each is called by Rust, npm and ELF. Pure.

import { CommandFailed } from '../run.mjs'

/** The oldest glibc that the binaries run on: that of RHEL 7, older than any that Node 20 runs on. */
export const GLIBC = '2.17'

const RUST = {
  'linux-x64-gnu': 'x86_64-unknown-linux-gnu',
  'linux-x64-musl': 'x86_64-unknown-linux-musl',
  'linux-arm64-gnu': 'aarch64-unknown-linux-gnu',
  'linux-arm64-musl': 'aarch64-unknown-linux-musl',
  'darwin-x64': 'x86_64-apple-darwin',
  'darwin-arm64': 'aarch64-apple-darwin',
  'win32-x64-msvc': 'x86_64-pc-windows-msvc',
}

const LIBRARY = { linux: 'libcarillon.so', darwin: 'libcarillon.dylib', win32: 'carillon.dll' }
const LIBC = { gnu: 'glibc', musl: 'musl' }

/** `e_machine` of an ELF file (gABI, figure 4-3 and its supplement for AArch64). */
const ELF_MACHINE = { x64: 62, arm64: 183 }

export const NAMES = Object.keys(RUST)

/** Those that one Linux machine can build all of. */
export const ON_LINUX = NAMES.filter((name) => name.startsWith('linux-'))

export function target(name) {
  if (!Object.hasOwn(RUST, name)) throw new CommandFailed(`there is no target ${name}; there are ${NAMES.join(', ')}`)
  const [os, cpu, abi] = name.split('-')
  return {
    name,
    rust: RUST[name],
    os,
    cpu,
    libc: os === 'linux' ? LIBC[abi] : undefined,
    library: LIBRARY[os],
    binary: `carillon.${name}.node`,
    package: `carillon-${name}`,
    elfMachine: os === 'linux' ? ELF_MACHINE[cpu] : undefined,
  }
}
