/** What was changed in a recipe. */
import { differences } from './environment.js'

/** `optimizer.lr: 0.1 → 0.05`: of two recipes as a run keeps them, by the paths of their values. */
export async function differencesOfRecipes(before: string, now: string): Promise<string[]> {
  if (before === now) return []
  const { parse } = await import('yaml')
  return differences(flattened(parse(before)), flattened(parse(now)))
}

function flattened(value: unknown, path = ''): Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return { [path]: value }
  const entries = Array.isArray(value)
    ? value.map((each: unknown, i) => [`${path}[${i}]`, each] as const)
    : Object.entries(value).map(
        ([name, each]) => [path === '' ? name : `${path}.${name}`, each as unknown] as const,
      )
  return Object.assign({}, ...entries.map(([name, each]) => flattened(each, name))) as Record<string, unknown>
}
