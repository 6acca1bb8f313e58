/** What is wrong with a recipe, and where. */
import { isError } from '../../checks/realms.js'
import { AlambicError, show } from '../../errors.js'

/** The keys and numbers that lead to a value: `['objective', 1, 'weight']`. */
export type Path = readonly (string | number)[]

/** Where something was written. */
export interface Place {
  /** As messages name it. Undefined for what was given as an object. */
  file?: string | undefined
  /** From 1. */
  line?: number | undefined
  /** From 1. */
  column?: number | undefined
  /** The override that said it, instead of a file: `optimizer.lr=0.1`. */
  set?: string | undefined
}

/** One mistake in a recipe. */
export interface RecipeProblem extends Place {
  /** The path of the key: `objective[1].temperature`; `''` is the whole. */
  path: string
  /** What is wrong, without its place. */
  message: string
  /** What was given; undefined for what is missing. */
  value?: unknown
  /** The nearest name of those that there are. */
  suggestion?: string | undefined
}

/** What `loadRecipe` throws: all mistakes at once, one on each line of the message. */
export interface RecipeError extends AlambicError {
  readonly code: 'ERR_RECIPE'
  readonly problems: readonly RecipeProblem[]
}

/** `objective[1].layers[0]` */
export function pathText(path: Path): string {
  return path.reduce<string>(
    (text, each) => (typeof each === 'number' ? `${text}[${each}]` : text === '' ? each : `${text}.${each}`),
    '',
  )
}

/** `recipe.yaml:3:9: epochs: expected …` */
export function problemText({ file, line, column, set, path, message }: RecipeProblem): string {
  const where =
    set === undefined ? [file, line, column].filter(each => each !== undefined).join(':') : `--set ${set}`
  return [where, path, message].filter(each => each !== '').join(': ')
}

/** What an error says; those of a user's own code are named. */
export function reasonOf(error: unknown): string {
  if (error instanceof AlambicError) return onOneLine(error.message)
  return isError(error) ? String(error) : `${show(error)} was thrown`
}

/** Where keys do not match, there may be hundreds of them. */
function onOneLine(message: string): string {
  const [first, ...more] = message.split('\n').map(line => line.trim())
  return more.length === 0 ? message : `${first} ${more.map(shortened).join('; ')}`
}

function shortened(line: string): string {
  const keys = line.split(', ')
  return /^(missing|unexpected) keys/.test(line) && keys.length > 4
    ? `${keys.slice(0, 3).join(', ')}, … ${keys.length} in all`
    : line
}

export function recipeError(problems: readonly RecipeProblem[]): RecipeError {
  const error = new AlambicError('ERR_RECIPE', problems.map(problemText).join('\n'))
  return Object.assign(error, { problems }) as unknown as RecipeError
}

/** What is found wrong, in the order of the places. */
export class Problems {
  readonly #found: RecipeProblem[] = []

  get isEmpty(): boolean {
    return this.#found.length === 0
  }

  /** Whether something was found at the path or below it. */
  has(path: Path): boolean {
    const text = pathText(path)
    return this.#found.some(
      each => each.path === text || each.path.startsWith(`${text}.`) || each.path.startsWith(`${text}[`),
    )
  }

  add(
    place: Place,
    path: Path,
    message: string,
    more: { value?: unknown; suggestion?: string | undefined } = {},
  ): void {
    const problem: RecipeProblem = { ...place, path: pathText(path), message, ...more }
    const text = problemText(problem)
    if (!this.#found.some(each => problemText(each) === text)) this.#found.push(problem)
  }

  sorted(): RecipeProblem[] {
    return [...this.#found].sort(
      (a, b) =>
        (a.file ?? '').localeCompare(b.file ?? '') ||
        (a.line ?? 0) - (b.line ?? 0) ||
        (a.column ?? 0) - (b.column ?? 0),
    )
  }

  /** @throws AlambicError `ERR_RECIPE` if there are any */
  throwIfAny(): void {
    if (!this.isEmpty) throw recipeError(this.sorted())
  }
}
