// The hooks on a server: they render, and nothing connects. How they behave in a browser is tested in one.

import assert from 'node:assert/strict'
import { it } from 'node:test'
import { renderToString } from 'react-dom/server'
import { replaceGlobal } from './fake-socket.js'
import { useBill, useCarillon, useChannel, usePresence } from 'carillon-client/react'

function Page() {
  const { client, state } = useCarillon('wss://example.org/ws')
  const bill = useBill(client, 42)
  const chat = useChannel(client, 'chat:42')
  const { count } = usePresence(client, 'chat:42')
  return <p>{[state, bill.state, chat.state, chat.messages.length, count ?? 'unknown'].join(' ')}</p>
}

it('renders on a server without connecting', (t) => {
  const construct = t.mock.fn()
  replaceGlobal(t, 'WebSocket', construct)
  assert.equal(renderToString(<Page />), '<p>connecting pending pending 0 unknown</p>')
  assert.equal(construct.mock.callCount(), 0)
})
