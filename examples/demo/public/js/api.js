// The HTTP side of the page. A token lives for minutes, so it is fetched anew whenever it is needed and refused.

let userId
let token

export async function listUsers() {
  return (await fetch('api/users')).json()
}

export async function login(id) {
  const response = await fetch('api/login', json('POST', { userId: id }))
  if (!response.ok) throw new Error('Login refused')
  const session = await response.json()
  userId = id
  token = session.token
  return session
}

/** A token fresh enough to open a connection with. */
export async function freshToken() {
  return (await login(userId)).token
}

export async function call(path, method = 'GET', body) {
  let response = await send(path, method, body)
  if (response.status === 401) {
    await login(userId)
    response = await send(path, method, body)
  }
  const answer = await response.json()
  if (!response.ok) throw new Error(answer.error)
  return answer
}

function send(path, method, body) {
  const options = body === undefined ? { method, headers: {} } : json(method, body)
  options.headers.authorization = `Bearer ${token}`
  return fetch(path, options)
}

function json(method, body) {
  return { method, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }
}
