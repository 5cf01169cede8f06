// A component of a page, rendered as a server does it.

import assert from 'node:assert/strict'
import { createElement } from 'react'
import { renderToString } from 'react-dom/server'

const fetchToken = async (): Promise<string> => 'token'
const reload = (): void => {}

// example

assert.equal(renderToString(createElement(Bill, { id: 42 })).replaceAll('<!-- -->', ''), '<p>connecting: no update yet</p>')

// check
