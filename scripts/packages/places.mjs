// Where packages are built, assembled and packed, and where tools are kept between runs.

import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { ROOT } from '../run.mjs'

/** The tests of packages use a folder of their own, so that a release is not made of what they assembled. */
const DIST = resolve(ROOT, process.env.CARILLON_DIST || 'dist')
/** One folder per npm package, as it is published. */
export const PACKAGES = join(DIST, 'npm')
/** What `npm pack` makes of them. */
export const TARBALLS = join(DIST, 'tarballs')
/** Apart from other builds, whose compiler flags differ. */
export const CARGO_TARGET = join(ROOT, 'target/packages')
/** Compilers, emulators and C libraries that the registries provide. The number changes with what is kept there. */
export const CACHE = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'carillon', 'packages-1')

export function packageFolder(name) {
  return join(PACKAGES, name)
}
