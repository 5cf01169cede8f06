// Zig and cargo-zigbuild, at the versions and hashes of requirements.txt.

import { createHash } from 'node:crypto'
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { run } from '../run.mjs'
import { kept } from './kept.mjs'

const REQUIREMENTS = fileURLToPath(new URL('requirements.txt', import.meta.url))
const PIP = ['--quiet', '--disable-pip-version-check', '--no-deps', '--only-binary', ':all:']

/** The paths of the programs. */
export async function zig() {
  const version = createHash('sha256').update(readFileSync(REQUIREMENTS)).digest('hex').slice(0, 12)
  const folder = await kept(`zig-${version}`, (into) => pip(into, ['install', ...PIP, '--require-hashes', '--target', into, '-r', REQUIREMENTS]))
  return { zigbuild: join(folder, 'bin', 'cargo-zigbuild'), zig: join(folder, 'ziglang', 'zig') }
}

/** Runs pip from an environment of its own: Python of a distribution may come without pip, or refuse to use it. */
export async function pip(into, args) {
  const environment = join(into, 'pip-environment')
  await run('python3', ['-m', 'venv', environment])
  await run(join(environment, 'bin', 'python'), ['-m', 'pip', ...args], { env: { PIP_ROOT_USER_ACTION: 'ignore' } })
  rmSync(environment, { recursive: true, force: true })
}

/** The licence of what Zig links into a binary: LLVM's libunwind. */
export async function unwindLicence() {
  return readFileSync(join((await zig()).zig, '../lib/libunwind/LICENSE.TXT'), 'utf8')
}
