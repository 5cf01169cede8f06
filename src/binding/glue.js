// Calls that need JavaScript's own syntax or objects, compiled once per service by `glue.rs`. `await` resolves a value as it does in the
// application, including a changed `Promise.prototype.then`.
(function () {
  'use strict'

  const { apply } = Reflect
  const { setImmediate } = globalThis
  const AsyncResource = findAsyncResource()

  function findAsyncResource() {
    try {
      const hooks = process.getBuiltinModule?.('node:async_hooks')
      if (hooks !== undefined) return hooks.AsyncResource
      // Before Node 20.16 and 22.3: by way of the emitter that has such a resource, which `process` leads to.
      const EventEmitter = Object.getPrototypeOf(Object.getPrototypeOf(process)).constructor
      const { asyncResource } = new EventEmitter.EventEmitterAsyncResource({ name: 'CARILLON' })
      return Object.getPrototypeOf(asyncResource.constructor)
    } catch {
      return undefined
    }
  }

  // Captures the current async context, to run functions in later.
  function newScope() {
    return AsyncResource === undefined ? undefined : new AsyncResource('CARILLON')
  }

  // Calls a hook in its async context and settles the call with this id exactly once: with what it returned, or with what that
  // resolves to.
  function callHook(scope, hook, receiver, settle, id, ...args) {
    if (scope === undefined) invoke(hook, receiver, settle, id, args)
    else scope.runInAsyncScope(invoke, undefined, hook, receiver, settle, id, args)
  }

  function invoke(hook, receiver, settle, id, args) {
    let value
    try {
      value = apply(hook, receiver, args)
    } catch (error) {
      settle(id, false, error)
      return
    }
    if ((typeof value === 'object' && value !== null) || typeof value === 'function') awaitHook(value, settle, id)
    else settle(id, true, value)
  }

  async function awaitHook(value, settle, id) {
    try {
      value = await value
    } catch (error) {
      settle(id, false, error)
      return
    }
    settle(id, true, value)
  }

  // Reports the rejection of a promise that has no other handler.
  async function watch(promise, report, what) {
    try {
      await promise
    } catch (error) {
      report?.(what, error)
    }
  }

  return { callHook, newScope, setImmediate, watch }
})()
