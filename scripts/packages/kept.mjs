// A folder that is made once and found again by later runs, of this clone or another.

import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { CACHE } from './places.mjs'

/** `make` fills an empty folder. It gets its name once it is whole, so that an interrupted run leaves none behind. */
export async function kept(name, make) {
  const folder = join(CACHE, name)
  if (existsSync(folder)) return folder
  const unfinished = `${folder}.${process.pid}`
  rmSync(unfinished, { recursive: true, force: true })
  mkdirSync(unfinished, { recursive: true })
  mkdirSync(dirname(folder), { recursive: true })
  try {
    await make(unfinished)
    if (!existsSync(folder)) renameSync(unfinished, folder)
  } finally {
    rmSync(unfinished, { recursive: true, force: true })
  }
  return folder
}
