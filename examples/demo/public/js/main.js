// Puts the page together: who is here, what they follow, and where each message goes.

import { call, freshToken, listUsers, login } from './api.js'
import { BillList } from './bills.js'
import { LiveConnection } from './connection.js'
import { $, element, initials } from './dom.js'
import { Feed } from './feed.js'
import { ServicePanel } from './service-panel.js'
import { toast } from './toasts.js'

const POLL_EVERY = 1_000
/** What a new visitor follows, so that the feed has something to show. */
const FIRST_FOLLOWS = [101, 105]

const titles = new Map()
const titleOf = (billId) => titles.get(billId) ?? `Bill ${billId}`
const bills = new BillList(toggle)
const feed = new Feed(titleOf)
const panel = new ServicePanel(titleOf, rehearse)
const live = new LiveConnection(freshToken)
let user
let follows = new Set()
let seen = new Set()

live.addEventListener('state', ({ detail }) => showConnection(detail))
live.addEventListener('roundtrip', ({ detail }) => ($('#roundtrip').textContent = `${detail < 10 ? detail.toFixed(1) : Math.round(detail)} ms`))
live.addEventListener('message', ({ detail }) => receive(detail))
addEventListener('storage', ({ key }) => user && key === followsKey() && applyFollows(storedFollows()))
$('#retry').addEventListener('click', () => live.retryNow('ended'))
$('#logout').addEventListener('click', leave)
$('#publish').addEventListener('submit', publish)
for (const tab of document.querySelectorAll('.tabs button')) tab.addEventListener('click', () => showTab(tab.dataset.tab))
setInterval(poll, POLL_EVERY)
showTab('feed')
begin()

async function begin() {
  const people = await listUsers()
  $('#users').replaceChildren(...people.map((person) =>
    element('li', {}, element('button', { type: 'button', class: 'user', data: { user: person.id }, onclick: () => enter(person.id) },
      avatar(element('span', { class: 'avatar', 'aria-hidden': 'true' }), person),
      element('span', {}, element('strong', {}, person.name), element('small', {}, person.role)))),
  ))
  // The tab remembers who it is; another tab may be somebody else.
  const remembered = sessionStorage.getItem('user')
  if (people.some(({ id }) => id === remembered)) enter(remembered)
}

async function enter(userId) {
  ;({ user } = await login(userId))
  sessionStorage.setItem('user', userId)
  $('#me-name').textContent = user.name
  $('#me-role').textContent = user.role
  avatar($('#me-avatar'), user)
  document.body.dataset.view = 'app'
  $('#login').hidden = true
  $('#app').hidden = false
  follows = new Set()
  seen = new Set()
  feed.clear()
  applyFollows(storedFollows())
  await catchUp()
  live.start()
  poll()
}

function leave() {
  live.stop()
  user = undefined
  sessionStorage.removeItem('user')
  document.body.dataset.view = 'login'
  $('#login').hidden = false
  $('#app').hidden = true
  $('.user')?.focus()
}

/** What happened before this connection, or while there was none, comes by HTTP. */
async function catchUp() {
  const { bills: list, recent, stages, sitting } = await call('api/bills')
  for (const { id, title } of list) titles.set(id, title)
  bills.show(list, stages)
  bills.follows(follows)
  showSitting(sitting)
  for (const update of recent.toReversed()) enterFeed(update)
}

function receive(message) {
  switch (message.type) {
    case 'bill_update':
      bills.changed(message.bill_id, message.update.data.bill)
      return enterFeed({ billId: message.bill_id, ...message.update })
    case 'notification':
      return toast({ ...message.notification, kind: message.notification.type })
    case 'sitting':
      return showSitting(message.data)
    case 'connected':
      return void catchUp().catch(() => {})
    case 'system_status':
      return toast({ title: 'The service says', message: message.data.message })
    case 'error':
      return toast({ title: 'The service refused', message: message.message })
  }
}

function enterFeed(update) {
  const { billId, data } = update
  if (!follows.has(billId) || seen.has(data.id)) return
  seen.add(data.id)
  feed.add({ ...update, own: data.author?.name === user.name })
}

async function publish(event) {
  event.preventDefault()
  const form = event.currentTarget
  const { bill, type, text } = Object.fromEntries(new FormData(form))
  const result = $('#publish-result')
  try {
    const { followers } = await call(`api/bills/${bill}/updates`, 'POST', { type, text })
    result.textContent = followers === 1 ? 'Sent to the one person who follows it.' : `Sent to ${followers} people who follow it.`
    $('#publish-text').value = ''
  } catch (error) {
    result.textContent = `Not sent: ${error.message}`
  }
}

function toggle(billId) {
  const next = new Set(follows)
  if (!next.delete(billId)) next.add(billId)
  localStorage.setItem(followsKey(), JSON.stringify([...next]))
  applyFollows(next)
}

function applyFollows(next) {
  for (const id of follows) if (!next.has(id)) live.unfollow(id)
  for (const id of next) if (!follows.has(id)) live.follow(id)
  follows = next
  bills.follows(follows)
  const first = [...follows][0]
  if (first && !$('#publish-text').value) $('#publish-bill').value = String(first)
}

function storedFollows() {
  try {
    const stored = localStorage.getItem(followsKey())
    return new Set(stored === null ? FIRST_FOLLOWS : JSON.parse(stored))
  } catch {
    return new Set()
  }
}

function followsKey() {
  return `follows:${user.id}`
}

async function rehearse(pressure) {
  try {
    await call('api/pressure', 'POST', { pressure })
    await poll()
  } catch (error) {
    toast({ title: 'Not rehearsed', message: error.message })
  }
}

async function poll() {
  const visible = getComputedStyle($('#service')).display !== 'none' || getComputedStyle($('#bills')).display !== 'none'
  if (!user || document.hidden || !visible) return
  try {
    const report = await call('api/service')
    panel.show(report)
    bills.followers(report.followers)
  } catch {
    panel.unreachable()
  }
}

let countdown
function showConnection({ state, delay, reason }) {
  clearInterval(countdown)
  const pill = $('#connection')
  pill.dataset.state = state
  if (state === 'waiting') panel.unreachable()
  if (state !== 'live') $('#roundtrip').textContent = ''
  $('[data-text]', pill).textContent = { live: 'Live', connecting: 'Connecting', waiting: 'Reconnecting', ended: 'Ended', idle: 'Offline' }[state]
  const banner = $('#banner')
  if (state === 'live' || state === 'idle') banner.hidden = true
  if (state !== 'waiting' && state !== 'ended') return
  banner.hidden = false
  if (state === 'ended') return void ($('[data-text]', banner).textContent = reason)
  const until = Date.now() + delay
  const tick = () => {
    const left = Math.max(0, Math.ceil((until - Date.now()) / 1000))
    $('[data-text]', banner).textContent = `${reason} Trying again ${left > 0 ? `in ${left} s.` : '…'}`
  }
  tick()
  countdown = setInterval(tick, 250)
}

function showSitting({ day, clock, phase }) {
  $('#sitting').replaceChildren(element('b', {}, clock), element('span', {}, `Day ${day} · ${phase}`))
}

function showTab(name) {
  document.body.dataset.section = name
  for (const tab of document.querySelectorAll('.tabs button')) tab.setAttribute('aria-current', String(tab.dataset.tab === name))
}

function avatar(node, { name, hue }) {
  node.textContent = initials(name)
  node.style.setProperty('--hue', hue)
  return node
}
