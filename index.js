// Loads the binary of this platform: beside this file where it was built, else from the package that npm installs for it.
// Requires are spelled out, so that tools which trace files can follow them.

'use strict'

const { TRIPLES, triple } = require('./platform.js')
const { version } = require('./package.json')

const BESIDE = {
  'linux-x64-gnu': () => require('./carillon.linux-x64-gnu.node'),
  'linux-x64-musl': () => require('./carillon.linux-x64-musl.node'),
  'linux-arm64-gnu': () => require('./carillon.linux-arm64-gnu.node'),
  'linux-arm64-musl': () => require('./carillon.linux-arm64-musl.node'),
  'darwin-x64': () => require('./carillon.darwin-x64.node'),
  'darwin-arm64': () => require('./carillon.darwin-arm64.node'),
  'win32-x64-msvc': () => require('./carillon.win32-x64-msvc.node'),
}

const INSTALLED = {
  'linux-x64-gnu': () => [require('carillon-linux-x64-gnu/package.json').version, require('carillon-linux-x64-gnu')],
  'linux-x64-musl': () => [require('carillon-linux-x64-musl/package.json').version, require('carillon-linux-x64-musl')],
  'linux-arm64-gnu': () => [require('carillon-linux-arm64-gnu/package.json').version, require('carillon-linux-arm64-gnu')],
  'linux-arm64-musl': () => [require('carillon-linux-arm64-musl/package.json').version, require('carillon-linux-arm64-musl')],
  'darwin-x64': () => [require('carillon-darwin-x64/package.json').version, require('carillon-darwin-x64')],
  'darwin-arm64': () => [require('carillon-darwin-arm64/package.json').version, require('carillon-darwin-arm64')],
  'win32-x64-msvc': () => [require('carillon-win32-x64-msvc/package.json').version, require('carillon-win32-x64-msvc')],
}

function load() {
  const path = process.env.NAPI_RS_NATIVE_LIBRARY_PATH
  if (path) return attempt(() => require(path)) ?? fail('ERR_BINARY_MISSING', `There is no ${path}, which NAPI_RS_NATIVE_LIBRARY_PATH names.`)
  const name = triple()
  if (name === undefined) return fail('ERR_UNSUPPORTED_PLATFORM', unsupported())
  return attempt(BESIDE[name]) ?? attempt(() => ofThisVersion(name, INSTALLED[name]())) ?? fail('ERR_BINARY_MISSING', missing(name))
}

/** Undefined where there is no such file or package. One that is there and cannot be loaded is an error of its own. */
function attempt(candidate) {
  try {
    return candidate()
  } catch (cause) {
    if (isAbsent(cause)) return undefined
    if (cause.code === 'ERR_BINARY_VERSION') throw cause
    return fail('ERR_BINARY_UNUSABLE', unusable(cause), cause)
  }
}

/** A package whose own file is missing is there, and broken: the error of Node names its path. */
function isAbsent(error) {
  return (error.code === 'MODULE_NOT_FOUND' || error.code === 'ERR_MODULE_NOT_FOUND') && error.path === undefined
}

function ofThisVersion(name, [found, binding]) {
  if (found === version) return binding
  return fail('ERR_BINARY_VERSION', `carillon ${version} needs carillon-${name} ${version}, but ${found} is installed. ${INSTALL(name)}`)
}

const INSTALL = (name) => `Install it with: npm install carillon-${name}@${version}`

function missing(name) {
  return [
    `The binary for this platform (${name}) is not installed: there is no package carillon-${name}.`,
    'It is an optional dependency of carillon. It is left out by --omit=optional and --no-optional, by a node_modules folder or a',
    'lock file that was made on another platform, and by a bundler that does not treat carillon as external.',
    INSTALL(name),
    'In a clone of the repository, build it with: npm run build',
  ].join('\n')
}

function unsupported() {
  const { platform, arch, version: node } = process
  return [
    `There is no binary for this platform: ${platform}-${arch} (Node ${node}).`,
    `Binaries exist for ${TRIPLES.join(', ')}.`,
    'For others, build it in a clone of the repository with "npm run build", and set NAPI_RS_NATIVE_LIBRARY_PATH to the path of the file.',
  ].join('\n')
}

function unusable(cause) {
  return [
    `The binary for this platform (${triple() ?? `${process.platform}-${process.arch}`}) is there, but cannot be loaded: ${cause.message}`,
    'It may be damaged, made for another architecture or C library, or need a newer one than this system has. Reinstall carillon on the machine that runs it.',
  ].join('\n')
}

function fail(code, message, cause) {
  throw Object.assign(new Error(message, cause && { cause }), { code })
}

const binding = load()

module.exports.WebSocketService = binding.WebSocketService
module.exports.webSocketService = binding.webSocketService
module.exports.BASE_CONFIG = binding.BASE_CONFIG
