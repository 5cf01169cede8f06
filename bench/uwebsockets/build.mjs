// Builds server.cpp with the sources a published crate carries. Returns what is missing where that does not work.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const HERE = fileURLToPath(new URL('.', import.meta.url))
const OUT = path.join(HERE, '../load/target/uwebsockets')
export const PROGRAM = path.join(OUT, 'server')

export function buildUwebsockets() {
  const source = path.join(HERE, 'server.cpp')
  if (existsSync(PROGRAM) && statSync(PROGRAM).mtimeMs > statSync(source).mtimeMs) return undefined
  const metadata = spawnSync('cargo', ['metadata', '--format-version=1', '--locked', '--manifest-path', `${HERE}Cargo.toml`], { maxBuffer: 2 ** 26 })
  if (metadata.status !== 0) return 'its sources could not be fetched'
  const { packages } = JSON.parse(metadata.stdout)
  const root = path.join(path.dirname(packages.find(({ name }) => name === 'libuwebsockets-sys').manifest_path), 'uWebSockets')
  const sockets = path.join(root, 'uSockets/src')
  mkdirSync(OUT, { recursive: true })
  const c = ['', 'eventing', 'crypto'].flatMap((folder) =>
    readdirSync(path.join(sockets, folder)).filter((name) => name.endsWith('.c')).map((name) => path.join(sockets, folder, name)),
  )
  const flags = ['-O3', '-w', '-DLIBUS_NO_SSL', `-I${sockets}`, `-I${root}/src`]
  const compile = (command, args) => spawnSync(command, args, { cwd: OUT, stdio: ['ignore', 'ignore', 'inherit'] }).status === 0
  const built =
    compile('gcc', [...flags, '-c', ...c]) &&
    compile('g++', [...flags, '-std=c++20', source, ...c.map((file) => `${path.basename(file, '.c')}.o`), '-lz', '-lcrypto', '-lpthread', '-o', PROGRAM])
  return built ? undefined : 'it could not be built; it needs g++ and the headers of zlib and OpenSSL'
}
