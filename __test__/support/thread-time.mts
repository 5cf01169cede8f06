// Milliseconds that a thread has run: what it was kept from running by other processes does not count. Where the system does not
// tell, the time of the clock.

import { readFileSync, readdirSync } from 'node:fs'

/** Where the time of one of this process's threads can be read, also by others. `undefined` where it cannot. */
export function threadTimePath(name?: string): string | undefined {
  if (process.platform !== 'linux') return undefined
  const tasks = `/proc/${process.pid}/task`
  if (name === undefined) return `${tasks}/${process.pid}/schedstat`
  const found = readdirSync(tasks).find((task) => readFileSync(`${tasks}/${task}/comm`, 'utf8').trim() === name)
  return found === undefined ? undefined : `${tasks}/${found}/schedstat`
}

/** NaN when the thread has ended: a client may still get what it has sent before. */
export function threadTime(path: string | undefined): number {
  if (path === undefined) return performance.now()
  try {
    return Number(readFileSync(path, 'utf8').split(' ')[0]) / 1e6
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return Number.NaN
    throw error
  }
}
