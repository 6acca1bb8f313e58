/**
 * libtorch's compiler descends by recursion: into brackets, blocks, and chains of operators. What Python writes stays
 * far below these bounds; what is above them was made to exhaust the stack.
 */
const maxBrackets = 200
const maxBlocks = 200
/** Of one statement, outside of its innermost brackets. */
const maxChain = 2000

/** Brackets, commas, and operators. */
const tokens = /[[({]|[\])}]|,|\b(?:not|and|or|if|else|in|is)\b|[-+*/%&|^~<>=.@]/g

/** What is wrong with a source, or nothing. */
export function checkSource(source: string): { expected: string; found: string } | undefined {
  let indents = [0]
  let elifs = 0
  let isInClass = false
  for (const statement of statementsOf(source)) {
    // Members of an enumeration are such assignments, and so is what functions do.
    if (statement.indent === 0)
      isInClass = /^class\b/.test(statement.text) && !/\(\s*Enum\b/.test(statement.text)
    const unknown = isInClass ? unknownDeclaration(statement.text, indents) : undefined
    if (unknown !== undefined) return { expected: 'declarations with a type', found: unknown }
    if (statement.brackets > maxBrackets)
      return { expected: `brackets nested at most ${maxBrackets} deep`, found: `${statement.brackets}` }
    indents = [...indents.filter(indent => indent < statement.indent), statement.indent]
    if (indents.length > maxBlocks)
      return { expected: `blocks nested at most ${maxBlocks} deep`, found: `${indents.length}` }
    elifs = statement.isElif ? elifs + 1 : 0
    const chain = Math.max(statement.chain, elifs)
    if (chain > maxChain) return { expected: `at most ${maxChain} operators in a row`, found: `${chain}` }
  }
  return undefined
}

/** What a class may declare without a type; libtorch 1.13 dies of others. */
const declarations = new Set([
  '__parameters__',
  '__buffers__',
  '__annotations__',
  '__forward_hooks__',
  '__forward_pre_hooks__',
])

/** `NAME = …` directly in a class, of a name that is not known. */
function unknownDeclaration(text: string, indents: readonly number[]): string | undefined {
  const [, space, name] = /^(\s+)(\w+)[^=:(]*=/.exec(text) ?? []
  if (space === undefined || name === undefined || declarations.has(name)) return undefined
  // The first level of a class; inside of a method there is one more.
  const isDirectly = indents.filter(indent => indent < space.length).length <= 1
  return isDirectly ? name.slice(0, 80) : undefined
}

interface Statement {
  /** Its first line, without strings and comments. */
  text: string
  indent: number
  brackets: number
  chain: number
  isElif: boolean
}

/** Lines that brackets hold together are one statement; strings are left out. */
function* statementsOf(source: string): Generator<Statement> {
  let depth = 0
  let statement: Statement | undefined
  let chains: number[] = []
  for (const line of source.split('\n')) {
    const bare = line.replace(/"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/g, '""').replace(/#.*$/, '')
    if (statement === undefined) {
      if (bare.trim() === '') continue
      statement = {
        text: bare,
        indent: bare.length - bare.trimStart().length,
        brackets: 0,
        chain: 0,
        isElif: /^\s*elif\b/.test(bare),
      }
      chains = [0]
    }
    for (const [token] of bare.matchAll(tokens)) {
      if ('[({'.includes(token)) {
        depth++
        chains.push(0)
        statement.brackets = Math.max(statement.brackets, depth)
      } else if ('])}'.includes(token)) {
        depth = Math.max(0, depth - 1)
        if (chains.length > 1) chains.pop()
        chains[chains.length - 1]! += 1 // calls of calls: f(x)(y)(z)
      } else if (token === ',') chains[chains.length - 1] = 0
      else chains[chains.length - 1]! += 1
      statement.chain = Math.max(statement.chain, chains.at(-1)!)
    }
    if (depth > 0 || bare.endsWith('\\')) continue
    yield statement
    statement = undefined
  }
  if (statement) yield statement
}
