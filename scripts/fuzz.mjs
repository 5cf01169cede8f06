// `npm run fuzz -- 60` feeds every target of fuzz/ for 60 seconds (10 unless said), `npm run fuzz -- 60 frames inflate` these.
// `--address-sanitizer` also looks for wrong accesses of memory, in the `unsafe` code of dependencies above all; building
// and running then take twice as long. What is found lies in fuzz/artifacts.
//
// No nightly compiler and no cargo-fuzz: libFuzzer comes as the source of a crate, and instrumentation is a pass of LLVM that
// every compiler has. Only the sanitizer's flag must be unlocked.

import { mkdirSync, readdirSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { CommandFailed, ROOT, main, run } from './run.mjs'

const MAX_INPUT_BYTES = 8192
const MAX_MEMORY_MB = 1024
/** On a machine with other things to do. */
const MAX_SECONDS_PER_INPUT = 60

/** What `cargo fuzz` has the compiler do: count edges, and tell the fuzzer what is compared with what. */
const INSTRUMENTATION = [
  '-Cpasses=sancov-module',
  '-Cllvm-args=-sanitizer-coverage-level=4',
  '-Cllvm-args=-sanitizer-coverage-inline-8bit-counters',
  '-Cllvm-args=-sanitizer-coverage-pc-table',
  '-Cllvm-args=-sanitizer-coverage-trace-compares',
  '--cfg=fuzzing',
]

export function targets() {
  return readdirSync(`${ROOT}fuzz/fuzz_targets`).map((name) => name.replace(/\.rs$/, '')).sort()
}

/** Feeds the targets one after the other; fails at the first input that breaks one. */
export async function fuzz(seconds, names = targets(), { addressSanitizer = false } = {}) {
  const programs = await build(names, addressSanitizer)
  for (const name of names) await feed(name, `${programs}/${name}`, seconds)
  console.log(`fuzzed ${names.join(', ')}: nothing found`)
}

/** Resolves with the directory of the programs. */
async function build(names, addressSanitizer) {
  const host = /^host: (.*)$/m.exec(await run('rustc', ['-vV'], { quiet: true }))?.[1]
  const directory = `target/${addressSanitizer ? 'fuzz-asan' : 'fuzz'}`
  const flags = [process.env.RUSTFLAGS, ...INSTRUMENTATION, addressSanitizer && '-Zsanitizer=address'].filter(Boolean)
  const env = { RUSTFLAGS: flags.join(' '), ...(addressSanitizer && { RUSTC_BOOTSTRAP: '1' }) }
  // With a target named, build scripts and macros are built without the flags.
  const args = ['build', '--locked', '--release', '--manifest-path', 'fuzz/Cargo.toml', '--target', host, '--target-dir', directory]
  await run('cargo', [...args, ...names.flatMap((name) => ['--bin', name])], { env })
  return `${ROOT}${directory}/${host}/release`
}

async function feed(name, program, seconds) {
  const [corpus, artifacts, seeds] = [`fuzz/corpus-local/${name}`, `fuzz/artifacts/${name}`, `fuzz/seeds/${name}`]
  for (const directory of [corpus, artifacts]) mkdirSync(ROOT + directory, { recursive: true })
  if (readdirSync(ROOT + seeds).length === 0) throw new CommandFailed(`${name} has no seeds`)
  const limits = [
    `-max_total_time=${seconds}`,
    `-max_len=${MAX_INPUT_BYTES}`,
    `-rss_limit_mb=${MAX_MEMORY_MB}`,
    `-timeout=${MAX_SECONDS_PER_INPUT}`,
    `-artifact_prefix=${ROOT}${artifacts}/`,
    '-print_final_stats=1',
    '-verbosity=0',
  ]
  console.log(`fuzzing ${name} for ${seconds} s`)
  await run(program, [...limits, corpus, seeds])
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  await main(async () => {
    const words = process.argv.slice(2)
    const addressSanitizer = words.includes('--address-sanitizer')
    const [seconds = '10', ...names] = words.filter((word) => word !== '--address-sanitizer')
    if (!/^[1-9]\d*$/.test(seconds)) throw new CommandFailed(`seconds must be a number, not ${seconds}`)
    const unknown = names.filter((name) => !targets().includes(name))
    if (unknown.length > 0) throw new CommandFailed(`there is no target ${unknown.join(', ')}; there are ${targets().join(', ')}`)
    await fuzz(Number(seconds), names.length > 0 ? names : undefined, { addressSanitizer })
  })
}
