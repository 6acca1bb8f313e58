/** The names closest to a mistyped one, at most `count`: what "did you mean" offers. */
export function nearest(name: string, known: Iterable<string>, count = 3): string[] {
  const wanted = normalize(name)
  return Array.from(new Set(known))
    .map(candidate => ({ candidate, distance: editDistance(wanted, normalize(candidate)) }))
    .filter(({ distance, candidate }) => distance <= Math.max(wanted.length, candidate.length) / 2)
    .sort((a, b) => a.distance - b.distance || (a.candidate < b.candidate ? -1 : 1))
    .slice(0, count)
    .map(({ candidate }) => candidate)
}

/** Case and underscores do not count: users mix up snake_case and camelCase. */
function normalize(name: string): string {
  return name.toLowerCase().replaceAll('_', '')
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++)
      next.push(
        Math.min(
          row[j]! + 1,
          next[j - 1]! + 1,
          row[j - 1]! + (a.charCodeAt(i - 1) === b.charCodeAt(j - 1) ? 0 : 1),
        ),
      )
    row = next
  }
  return row[b.length]!
}
