// A sitting day of the Assembly, one minute a second: people comment, amend, schedule votes, and the votes are taken.

import { STAGES } from './bills.mjs'

const OPENS = 9 * 60
const CLOSES = 18 * 60
const EVENTS_PER_MINUTE = 1.6
const SITTING_EVERY = 5

/** Until (minute of the day), name, and how often each kind of event happens in it. */
const PHASES = [
  { until: 10 * 60, name: 'Morning papers', mix: { comment: 8, amend: 1, schedule: 1 } },
  { until: 12 * 60 + 30, name: 'Committees sit', mix: { comment: 5, amend: 4, schedule: 1 } },
  { until: 14 * 60, name: 'Recess', mix: { comment: 9, amend: 0, schedule: 0.5 } },
  { until: 16 * 60 + 30, name: 'Plenary', mix: { comment: 6, amend: 2, schedule: 2 } },
  { until: CLOSES, name: 'Division time', mix: { comment: 5, amend: 1, schedule: 3 } },
]

const PEOPLE = [
  ['Noor Al-Sayed', 'Citizen'], ['Wanjiku Kamau', 'Farmer'], ['Felix Baumann', 'Engineer'], ['Sofia Marin', 'Teacher'],
  ['Oluwaseun Ade', 'Nurse'], ['Hana Suzuki', 'Researcher'], ['Liam Byrne', 'Councillor'], ['Zanele Dube', 'Advocate'],
  ['Leila Haddad', 'Member for Southgate'], ['Peter Mwangi', 'Member for Highlands'], ['Ingrid Solberg', 'Member for Northport'],
]
const CLERK = { name: 'Office of the Clerk', role: 'Order paper' }
const COMMENTS = [
  'Long overdue. Please keep the reporting duty in clause 4.',
  'Who pays for this after the third year? The memorandum is silent.',
  'Our town tried something similar; happy to share the numbers.',
  'The definition in section 2 is too narrow, it leaves out small providers.',
  'Support this, but the transition period should be twelve months.',
  'Could the committee publish the expert evidence before Thursday?',
  'Section 9 contradicts the act of last year. Which one prevails?',
  'I changed my mind after reading the impact assessment. In favour.',
  'Please think of people without internet access when giving notice.',
  'Thank you for answering the consultation line by line.',
]
const AMENDMENTS = [
  'Clause 3: replace “may” with “shall”',
  'New clause 12: yearly report to the Assembly',
  'Clause 7: lower the threshold to 50 employees',
  'Schedule 1: add wetlands and reservoirs',
  'Clause 5: transition period of twelve months',
  'Strike clause 9(2)',
]

export class Simulation {
  #bills
  #publish
  #announce
  #pace
  #timers = new Set()
  #minute = OPENS
  #day = 1
  #votes = new Set()

  /** `pace` 1 is a minute a second; 0 keeps the Assembly asleep. */
  constructor({ bills, publish, announce, pace }) {
    this.#bills = bills
    this.#publish = publish
    this.#announce = announce
    this.#pace = pace
  }

  start() {
    if (!(this.#pace > 0)) return
    this.#every(1_000 / this.#pace, () => this.#nextMinute())
    this.#scheduleEvent()
  }

  stop() {
    for (const timer of this.#timers) clearTimeout(timer)
    this.#timers.clear()
  }

  now() {
    const phase = PHASES.find(({ until }) => this.#minute < until) ?? PHASES.at(-1)
    return { day: this.#day, clock: clock(this.#minute), phase: phase.name, mix: phase.mix }
  }

  #nextMinute() {
    this.#minute += 1
    if (this.#minute >= CLOSES) {
      this.#minute = OPENS
      this.#day += 1
    }
    if (this.#minute % SITTING_EVERY === 0) {
      const { day, clock, phase } = this.now()
      this.#announce('sitting', { day, clock, phase })
    }
  }

  #scheduleEvent() {
    const gap = (-Math.log(1 - Math.random()) * 1_000) / (EVENTS_PER_MINUTE * this.#pace)
    this.#after(gap, () => {
      this.#event()
      this.#scheduleEvent()
    })
  }

  #event() {
    const bill = pick(this.#bills.list())
    const author = person()
    switch (weighted(this.now().mix)) {
      case 'comment':
        return this.#publish(bill.id, 'new_comment', { text: pick(COMMENTS), author })
      case 'amend':
        return this.#publish(bill.id, 'amendment', { text: pick(AMENDMENTS), author })
      case 'schedule':
        return this.#scheduleVote(bill)
    }
  }

  #scheduleVote(bill) {
    if (this.#votes.has(bill.id)) return
    this.#votes.add(bill.id)
    const next = STAGES[(STAGES.indexOf(bill.stage) + 1) % STAGES.length]
    const at = this.#minute + 15
    this.#publish(bill.id, 'voting_scheduled', {
      text: `The vote on “${bill.title}” (${next}) opens at ${clock(at)}.`,
      author: CLERK,
    })
    this.#after(15_000 / this.#pace, () => this.#division(bill, next))
  }

  /** Votes come in bursts: several in one turn, which the service sends as one batch. */
  #division(bill, next) {
    const total = 120
    let ayes = 0
    let noes = 0
    const leaning = 0.4 + Math.random() * 0.3
    const count = () => {
      for (let burst = 0; burst < 3 && ayes + noes < total; burst++) {
        for (let seat = 0; seat < 5; seat++) Math.random() < leaning ? ayes++ : noes++
        this.#publish(bill.id, 'vote_tally', { ayes, noes, total, text: `Ayes ${ayes}, noes ${noes}` })
      }
      if (ayes + noes < total) return this.#after(350 / this.#pace, count)
      const passed = ayes > noes
      this.#votes.delete(bill.id)
      this.#publish(bill.id, 'status_change', {
        text: passed ? `Passed by ${ayes} to ${noes}. Next: ${next}.` : `Not carried, ${ayes} to ${noes}. It stays at ${bill.stage}.`,
        stage: passed ? next : bill.stage,
        author: CLERK,
      })
    }
    count()
  }

  #after(ms, action) {
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      action()
    }, ms)
    this.#timers.add(timer)
  }

  #every(ms, action) {
    this.#timers.add(setInterval(action, ms))
  }
}

function clock(minute) {
  return `${String(Math.floor(minute / 60) % 24).padStart(2, '0')}:${String(minute % 60).padStart(2, '0')}`
}

function pick(list) {
  return list[Math.floor(Math.random() * list.length)]
}

function person() {
  const [name, role] = pick(PEOPLE)
  return { name, role }
}

function weighted(mix) {
  let left = Math.random() * Object.values(mix).reduce((sum, weight) => sum + weight, 0)
  for (const [name, weight] of Object.entries(mix)) if ((left -= weight) < 0) return name
  return 'comment'
}
