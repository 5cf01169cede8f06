// Which binary this process needs, by the name that its package ends with. Used by index.js, and by the scripts that build it.

'use strict'

const { readFileSync } = require('node:fs')

/** Those that are published, as `napi.targets` in package.json lists them. */
const TRIPLES = Object.freeze([
  'linux-x64-gnu',
  'linux-x64-musl',
  'linux-arm64-gnu',
  'linux-arm64-musl',
  'darwin-x64',
  'darwin-arm64',
  'win32-x64-msvc',
])

/** Undefined where there is no binary. */
function triple() {
  const { platform, arch } = process
  const suffix = { linux: () => (usesMusl() ? '-musl' : '-gnu'), win32: () => '-msvc' }[platform]
  const name = `${platform}-${arch}${suffix ? suffix() : ''}`
  return TRIPLES.includes(name) ? name : undefined
}

/** Whether this process runs on musl. The process knows; the system's `ldd` may be that of another C library. */
function usesMusl() {
  const report = processReport()
  if (report?.header?.glibcVersionRuntime) return false
  if (report?.sharedObjects?.some((file) => file.includes('libc.musl-') || file.includes('ld-musl-'))) return true
  try {
    return readFileSync('/usr/bin/ldd', 'utf8').includes('musl')
  } catch {
    return false
  }
}

/** Without its look at the network, which may take seconds. */
function processReport() {
  const { report } = process
  if (typeof report?.getReport !== 'function') return undefined
  const { excludeNetwork } = report
  report.excludeNetwork = true
  try {
    return report.getReport()
  } finally {
    report.excludeNetwork = excludeNetwork
  }
}

module.exports.TRIPLES = TRIPLES
module.exports.triple = triple
