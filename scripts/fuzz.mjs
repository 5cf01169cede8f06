// `npm run fuzz -- 60` feeds every target of fuzz/ for 60 seconds (10 unless said), `npm run fuzz -- 60 frames inflate` these.
// What is found lies in fuzz/artifacts. Needs a nightly compiler and cargo-fuzz.

import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { CommandFailed, ROOT, main, run } from './run.mjs'

const MAX_INPUT_BYTES = 8192
const MAX_MEMORY_MB = 512
const MAX_SECONDS_PER_INPUT = 10

/** What is missing for fuzzing here, if something is. */
export function missing() {
  try {
    execFileSync('cargo', ['+nightly', 'fuzz', '--version'], { cwd: ROOT, stdio: 'ignore' })
    return undefined
  } catch {
    return 'a nightly compiler and cargo-fuzz (rustup toolchain install nightly, cargo install cargo-fuzz)'
  }
}

export function targets() {
  return readdirSync(`${ROOT}fuzz/fuzz_targets`).map((name) => name.replace(/\.rs$/, '')).sort()
}

/** Feeds the targets one after the other; fails at the first input that breaks one. */
export async function fuzz(seconds, names = targets()) {
  await run('cargo', ['+nightly', 'fuzz', 'build'])
  for (const name of names) {
    const corpus = `fuzz/corpus-local/${name}`
    mkdirSync(ROOT + corpus, { recursive: true })
    const limits = [
      `-max_total_time=${seconds}`,
      `-max_len=${MAX_INPUT_BYTES}`,
      `-rss_limit_mb=${MAX_MEMORY_MB}`,
      `-timeout=${MAX_SECONDS_PER_INPUT}`,
      '-print_final_stats=1',
      '-verbosity=0',
    ]
    console.log(`fuzzing ${name} for ${seconds} s`)
    await run('cargo', ['+nightly', 'fuzz', 'run', name, corpus, `fuzz/seeds/${name}`, '--', ...limits])
  }
  console.log(`fuzzed ${names.join(', ')}: nothing found`)
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  await main(async () => {
    const what = missing()
    if (what) throw new CommandFailed(`fuzzing needs ${what}`)
    const [seconds = '10', ...names] = process.argv.slice(2)
    if (!/^[1-9]\d*$/.test(seconds)) throw new CommandFailed(`seconds must be a number, not ${seconds}`)
    const unknown = names.filter((name) => !targets().includes(name))
    if (unknown.length > 0) throw new CommandFailed(`there is no target ${unknown.join(', ')}; there are ${targets().join(', ')}`)
    await fuzz(Number(seconds), names.length > 0 ? names : undefined)
  })
}
