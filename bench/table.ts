import Table from 'cli-table3'

/** The first columns say what, the others are numbers. */
export function formatTable(head: string[], rows: string[][], labels = 3): string {
  const table = new Table({
    head,
    colAligns: head.map((_, column) => (column < labels ? 'left' : 'right')),
    style: { head: [], border: [] },
    chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' }, // no lines between rows
  })
  table.push(...rows)
  return table.toString()
}

/** Three digits that count. */
export function formatMilliseconds(milliseconds: number | null): string {
  if (milliseconds === null || Number.isNaN(milliseconds)) return '–'
  return milliseconds >= 100 ? milliseconds.toFixed(0) : milliseconds.toPrecision(3)
}

export function formatTimes(times: number | null): string {
  return times === null ? '–' : `${times.toFixed(2)}×`
}
