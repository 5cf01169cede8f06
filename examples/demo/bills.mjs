// The state of the bills: in a real application this is the database.

import { randomUUID } from 'node:crypto'

export const STAGES = ['Introduced', 'Committee', 'Report', 'Final vote', 'Assent']
export const UPDATE_TYPES = ['status_change', 'new_comment', 'amendment', 'voting_scheduled', 'vote_tally']

const RECENT = 60

const INITIAL = [
  [101, 'Clean Rivers and Wetlands', 'Grace Okafor', 1, 'Sets discharge limits for every river and publishes what sensors measure.'],
  [102, 'Right to Repair', 'Samuel Wanjiru', 2, 'Makers of household devices must sell parts and share repair manuals.'],
  [103, 'Open Courts Records', 'Helena Brandt', 0, 'Judgments become free to read and to search within seven days.'],
  [104, 'Rural Rail Renewal', 'Peter Mwangi', 1, 'Reopens eleven branch lines and funds a train every hour.'],
  [105, 'School Meals for All', 'Leila Haddad', 3, 'A hot meal for every child in primary school, grown nearby where possible.'],
  [106, 'Data Protection Reform', 'Priscilla Tan', 2, 'Shorter notices, clear limits on retention, and a regulator with teeth.'],
  [107, 'Fair Tenancies', 'Daniel Kiprono', 0, 'Caps deposits, ends evictions without grounds, sets a standard lease.'],
  [108, 'Community Energy', 'Ingrid Solberg', 1, 'Lets villages and streets own their turbines and sell what is left over.'],
]

export class BillStore {
  #bills = new Map()
  #recent = []

  constructor() {
    for (const [id, title, sponsor, stage, summary] of INITIAL) {
      this.#bills.set(id, {
        id, title, sponsor, summary,
        number: `Bill ${id}`,
        stage: STAGES[stage],
        comments: 20 + ((id * 37) % 90),
        amendments: (id * 7) % 9,
        vote: null,
      })
    }
  }

  list() {
    return [...this.#bills.values()]
  }

  get(id) {
    return this.#bills.get(id)
  }

  /** The latest updates of all bills, newest first. */
  recent() {
    return this.#recent
  }

  record(billId, type, data) {
    const bill = this.#bills.get(billId)
    if (type === 'new_comment') bill.comments += 1
    if (type === 'amendment') bill.amendments += 1
    if (type === 'status_change') {
      if (data.stage) bill.stage = data.stage
      bill.vote = null
    }
    if (type === 'vote_tally') bill.vote = { ayes: data.ayes, noes: data.noes }
    const { stage, comments, amendments, vote } = bill
    const update = {
      billId,
      type,
      data: { ...data, id: randomUUID(), bill: { stage, comments, amendments, vote } },
      timestamp: new Date(),
    }
    if (type !== 'vote_tally') this.#recent = [update, ...this.#recent].slice(0, RECENT)
    return update
  }
}
